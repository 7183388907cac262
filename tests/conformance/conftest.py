"""The contract behind SkyPilot takes half an hour: the tests of every day run a part of it."""

from __future__ import annotations

import os
import random

import pytest

ALL = "full" in {os.environ.get(f"FTLAUNCH_{what}") for what in ("TESTS", "SKYPILOT", "FAULTS")}
SEED = int(os.environ.get("FTLAUNCH_SKYPILOT_SEED", "20261126"))
PART = 6
_NAMED = "::TestSkyPilot::"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Choose by the seed, whoever collects: every worker must have the same list."""
    # Who names a case, or -k, wants that one.
    if ALL or config.option.keyword:
        return
    mine = [item for item in items if _NAMED in item.nodeid]
    if len(mine) <= PART:
        return
    chosen = set(random.Random(SEED).sample([item.nodeid for item in mine], PART))
    left = [item for item in mine if item.nodeid not in chosen]
    config.hook.pytest_deselected(items=left)
    items[:] = [item for item in items if _NAMED not in item.nodeid or item.nodeid in chosen]


def pytest_report_header() -> str:
    """What is left out is said, and how it is run."""
    if ALL:
        return "SkyPilot: every case of the contract"
    return (
        f"SkyPilot: {PART} cases of the contract, FTLAUNCH_SKYPILOT_SEED={SEED}; "
        "all of them: FTLAUNCH_SKYPILOT=full"
    )
