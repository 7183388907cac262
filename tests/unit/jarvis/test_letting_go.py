"""What a release keeps, when the record says no address."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from backends.jarvis.letting_go import LettingGo
from backends.jarvis.records import Box, Held, JobNote, Stage
from backends.lease import Keep


@pytest.mark.parametrize(
    ("stage", "running", "kept"),
    [(Stage.STARTED, False, True), (Stage.LAYING, False, False), (Stage.LAYING, True, False)],
)
def test_only_what_never_began_has_nothing_to_keep(
    stage: Stage, running: bool, kept: bool, tmp_path: Path
) -> None:
    """An adopted machine that sleeps has results, though this computer was never on it.

    One that came up after a launch was cut short has none, and may not answer yet.
    """
    row = SimpleNamespace(id=7, running=running)
    ended: list[str] = []

    def pause(box: Box) -> Box:
        ended.append("paused")
        return box

    def destroy(box: Box) -> Box:
        ended.append("destroyed")
        return box

    machines = SimpleNamespace(look_well=lambda box, ending: row, pause=pause, destroy=destroy)
    records = SimpleNamespace(try_save=lambda box: box, root=tmp_path)
    forgets = SimpleNamespace(forget=lambda job: None)
    reach = SimpleNamespace(running=lambda box, row: replace(box, ssh="root@127.0.0.1:1"))
    parts = (None, records, machines, reach, forgets)
    letting_go = LettingGo(*cast("Any", parts), clock=lambda: datetime.now(UTC))
    note = JobNote("lease", "2026-01-01T00:00:00+00:00", stage=stage)
    box = Box("key", "ftl-a", "container", "noida", "axolotl", 100, note.created_at,
              machine=7, held=Held.CREATING, jobs={"a": note})  # fmt: skip
    left = letting_go.release(box, "a", Keep.FILES)
    assert left.jobs["a"].kept is kept
    assert ended == (["paused"] if kept else ["destroyed"])
