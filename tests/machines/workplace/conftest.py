from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from far_machine import Machine
from far_rig import Far
from runner_rig import python
from sshd import Sshd, missing_parts
from watch_rig import Watch, watching

Missing = Callable[[str, str], NoReturn]

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


@pytest.fixture
def machine(tmp_path: Path, missing: Missing) -> Iterator[Machine]:
    """A machine behind a real sshd; nothing that was started on it outlives the test."""
    if parts := missing_parts():
        missing(parts, "the far end of these tests is a real sshd")
    with Sshd(tmp_path) as sshd:
        made = Machine(sshd, tmp_path / "far end's" / "ftlaunch", tmp_path / "here")
        made.here.mkdir()
        yield made
        made.close()
