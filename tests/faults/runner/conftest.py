from runner_rig import python, rig

__all__ = ["python", "rig"]
