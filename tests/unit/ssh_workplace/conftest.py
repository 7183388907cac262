from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from far_rig import Far
from runner_rig import python
from watch_rig import Watch, watching

__all__ = ["python"]


@pytest.fixture
def watch(python: str, tmp_path: Path) -> Iterator[Watch]:
    """A watchdog's folder on a machine of the test's own."""
    with watching(python, tmp_path / "machine") as made:
        yield made


@pytest.fixture
def twin(python: str, tmp_path: Path) -> Iterator[Watch]:
    """Another one, of a machine where nothing runs: what it has done tells the time."""
    with watching(python, tmp_path / "twin") as made:
        yield made


@pytest.fixture
def far(python: str, tmp_path: Path) -> Iterator[Far]:
    """A machine's workplace, without the ssh; nothing of its jobs outlives the test."""
    made = Far(python, tmp_path / "far end's" / "ftlaunch")
    yield made
    made.close()
