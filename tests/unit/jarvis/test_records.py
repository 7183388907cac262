from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest

from backends.jarvis.records import Box, Held, JobNote, Records, Stage

LOST = {"phase": "lost", "exit_code": None, "reason": "gone", "state": None}
DONE = {"phase": "succeeded", "exit_code": 0, "reason": "", "state": None}
WHEN = "2026-01-01T00:00:00+00:00"


def box(**notes: JobNote) -> Box:
    return Box(
        key="k",
        name="ftl-a",
        kind="container",
        region="india-noida-01",
        template="pytorch",
        disk_gib=100,
        created_at=WHEN,
        jobs=notes,
    )


def note(stage: Stage = Stage.STARTED) -> JobNote:
    return JobNote("lease", WHEN, stage=stage, links=["inputs/train"])


def test_what_is_saved_is_read_again(tmp_path: Path) -> None:
    saved = Records(tmp_path).save(box(job=note()))
    assert Records(tmp_path).box("k") == saved


def test_a_verdict_changes_nothing_else(tmp_path: Path) -> None:
    """Who looks has read the record before somebody else went on with the machine."""
    records = Records(tmp_path)
    records.save(Box(**{**vars(box(job=note())), "held": Held.PAUSED}))
    records.note_verdict("k", "job", DONE)
    now = records.box("k")
    assert now is not None
    assert now.held is Held.PAUSED
    assert now.jobs["job"].verdict == DONE


def test_a_verdict_outlives_whoever_had_not_seen_it(tmp_path: Path) -> None:
    records = Records(tmp_path)
    before = records.save(box(job=note()))
    records.note_verdict("k", "job", DONE)
    after = records.save(before.noted("job", stage=Stage.RELEASED))
    assert after == records.box("k")
    assert (after.jobs["job"].stage, after.jobs["job"].verdict) == (Stage.RELEASED, DONE)


def test_the_first_verdict_stays(tmp_path: Path) -> None:
    records = Records(tmp_path)
    records.save(box(job=note()))
    records.note_verdict("k", "job", DONE)
    records.note_verdict("k", "job", LOST)
    now = records.box("k")
    assert now is not None
    assert now.jobs["job"].verdict == DONE


@pytest.mark.parametrize(("key", "job"), [("k", "another"), ("gone", "job")])
def test_a_verdict_of_what_is_not_noted(tmp_path: Path, key: str, job: str) -> None:
    records = Records(tmp_path)
    saved = records.save(box(job=note()))
    records.note_verdict(key, job, DONE)
    assert records.all() == [saved]


def test_for_a_lost_job_no_machine_is_kept_awake() -> None:
    found = box(lost=note(), runs=note(), over=note(Stage.RELEASED)).noted("lost", verdict=LOST)
    assert found.open_jobs() == ["lost", "runs"]
    assert found.awaited_jobs() == ["runs"]


def test_what_may_be_seen_through_a_link() -> None:
    assert note().may_link(PurePosixPath("inputs/train/output/model"))
    assert not note().may_link(PurePosixPath("inputs/training"))
    assert not note().may_link(PurePosixPath("output/model"))
    assert JobNote("lease", WHEN).may_link(PurePosixPath("anything")), "nobody has said"
