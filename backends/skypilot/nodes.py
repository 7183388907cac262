"""What SkyPilot runs on each node of a cluster, and what it tells a node of the others."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Mapping, Sequence

_OURS = (
    'export FTLAUNCH_NODE_RANK="$SKYPILOT_NODE_RANK" FTLAUNCH_NODE_ADDRESSES="$SKYPILOT_NODE_IPS"'
)
"""SkyPilot's names, as `backends/team.py` has them; the first node's rank is 0 for both."""


def script(commands: Sequence[Sequence[str]], *, of: int) -> str:
    """What every node of a cluster of that many runs: each its own command, in order of rank.

    A node that has none ends well at once: where one ends badly SkyPilot ends all.
    """
    if of == 1:
        return f"exec {shlex.join(commands[0])}"
    cases = [f"{rank}) exec {shlex.join(command)} ;;" for rank, command in enumerate(commands)]
    return "\n".join([_OURS, 'case "$SKYPILOT_NODE_RANK" in', *cases, "*) exit 0 ;;", "esac"])


def variables(computer: str, lease: str) -> Mapping[str, str]:
    """What the nodes of a job know each other by.

    The same in every try of a launch: an earlier one may have started some of them. `computer` is
    known to this one and to the owner of the cluster's files.
    """
    known = hashlib.sha256(f"{computer} {lease}".encode()).hexdigest()
    return {"FTLAUNCH_TEAM_TOKEN": known}
