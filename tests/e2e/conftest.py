"""The command line as a user runs it: a process of its own, in folders of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from desks import Desk


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    here = tmp_path / "here"
    here.mkdir()
    made = Desk(here, tmp_path / "state", {})
    yield made
    if (made.state / "ftlaunch.db").exists():
        store = made.store()
        for run in store.runs(alive=True):
            made.run("stop", "--now", run.name, timeout=120)
        store.close()
