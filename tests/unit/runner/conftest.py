from runner_rig import python, rig
from team_rig import nodes

__all__ = ["nodes", "python", "rig"]
