"""What a release keeps, when the record says no address."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from backends.jarvis.letting_go import LettingGo
from backends.jarvis.records import Box, Held, JobNote, Stage
from backends.lease import Keep


@pytest.mark.parametrize(("stage", "kept"), [(Stage.STARTED, True), (Stage.LAYING, False)])
def test_only_what_never_began_has_nothing_to_keep(
    stage: Stage, kept: bool, tmp_path: Path
) -> None:
    """An adopted machine that sleeps has results, though this computer was never on it."""
    row = SimpleNamespace(id=7, running=False)
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
    parts = (None, records, machines, None, forgets)
    letting_go = LettingGo(*cast("Any", parts), clock=lambda: datetime.now(UTC))
    note = JobNote("lease", "2026-01-01T00:00:00+00:00", stage=stage)
    box = Box("key", "ftl-a", "container", "noida", "axolotl", 100, note.created_at,
              machine=7, held=Held.CREATING, jobs={"a": note})  # fmt: skip
    left = letting_go.release(box, "a", Keep.FILES)
    assert left.jobs["a"].kept is kept
    assert ended == (["paused"] if kept else ["destroyed"])
