"""Which tests go to one worker together, when both cores are used.

xdist's own groups go by a mark that it writes into the tests' names, and pytest 9.2 no longer takes
a name from there: they would be spread without a word.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

SKYPILOT = "skypilot"


def group(nodeid: str) -> str:
    """The group of a test. All of SkyPilot is one: two of its servers fill any machine.

    In `tests/e2e` a module is a story on a rig of its own, and stays together.
    """
    path = PurePosixPath(nodeid.partition("::")[0])
    if any(SKYPILOT in part for part in path.parts):
        return SKYPILOT
    return str(path) if "e2e" in path.parts else nodeid


def longest_first(items: list[pytest.Item]) -> list[pytest.Item]:
    """SkyPilot's, which take longest, and then the others as they were."""
    return sorted(items, key=lambda item: group(item.nodeid) != SKYPILOT)


class Grouped(LoadScopeScheduling):  # type: ignore[misc]
    """`--dist loadscope`, with these groups."""

    def __init__(self, config: pytest.Config, log: Any) -> None:
        # Else the group of most tests would begin, which is not the one that takes longest.
        config.option.loadscopereorder = False
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        return group(nodeid)
