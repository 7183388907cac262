"""What a job took, read from its own record: pace, peak and phases."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from toy_run import run_spec, toy

from backends import Offer
from backends.offer import FREE
from launcher.run import conductor, spec
from launcher.run.measuring import Took, took
from launcher.store.journal import stored

BEGAN = datetime(2026, 11, 26, 20, 5, 16, tzinfo=UTC)


def at(seconds: float) -> str:
    return (BEGAN + timedelta(seconds=seconds)).isoformat()


def bar(step: int, seconds: float, steps: int = 12, **more: Any) -> dict[str, Any]:
    return {"time": at(seconds), "step": step, "steps": steps, **more}


STATE = {
    "steps": [
        {"name": "preprocess", "phase": "succeeded", "started_at": at(0), "ended_at": at(20)},
        {"name": "train", "phase": "succeeded", "started_at": at(20), "ended_at": at(90)},
    ]
}
STEADY = [bar(n, 50 + 2 * n) for n in range(13)]


def of(rows: Sequence[dict[str, Any]], state: dict[str, Any] = STATE) -> Took:
    return took(state, rows)


def test_a_training_is_taken_apart() -> None:
    found = of([*STEADY, {"memory_gib": 3.5}, {"memory_gib": 4.25}, {"memory_gib": 4.0}])
    assert found.step_s == pytest.approx(2.0)
    assert found.peak_gib == 4.25
    assert found.seconds == {"preprocess": 20.0, "load": 30.0, "train": 24.0}


def test_the_first_steps_and_a_pause_leave_the_pace_alone() -> None:
    slow = [bar(0, 40), bar(1, 55), bar(2, 60), bar(3, 62)]
    paused = [bar(n, 62 + 2 * (n - 3) + (30 if n >= 7 else 0)) for n in range(4, 13)]
    assert of([*slow, *paused]).step_s == pytest.approx(2.0)


def test_steps_that_the_bar_skipped_count_for_each() -> None:
    rows = [bar(0, 50), bar(3, 56), bar(8, 61), bar(9, 62), bar(10, 63), bar(12, 85)]
    assert of(rows).step_s == pytest.approx(1.0)


def test_the_bar_of_an_evaluation_is_none_of_the_training() -> None:
    evaluation = [bar(n, 60 + 0.1 * n, steps=5) for n in range(6)]
    assert of([*STEADY[:6], *evaluation, *STEADY[6:]]).step_s == pytest.approx(2.0)


def test_of_a_job_that_began_again_the_last_attempt_counts() -> None:
    again = [bar(n, 200 + 3 * n) for n in range(4, 13)]
    assert of([*STEADY[:9], *again]).step_s == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("rows", "state"),
    [
        ([], STATE),
        (STEADY[:5], STATE),
        ([{"time": "soon", "step": 1, "steps": 2}], STATE),
        ([{"memory_gib": "nan"}, {"memory_gib": 0}], STATE),
        ([], {}),
    ],
)
def test_too_little_to_go_by_is_no_pace(rows: list[dict[str, Any]], state: dict[str, Any]) -> None:
    found = of(rows, state)
    assert (found.step_s, found.peak_gib) == (None, None)


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), -1.0])
def test_a_peak_that_is_no_number_is_none(odd: float) -> None:
    assert of([{"memory_gib": odd}]).peak_gib is None
    assert of([{"memory_gib": 2.0}, {"memory_gib": odd}]).peak_gib == 2.0


def test_a_finished_run_leaves_a_row_that_outlives_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FTLAUNCH_STATE_DIR", str(tmp_path / "state"))
    offer = Offer("local", "L4", 1, FREE, here=True)
    with toy(tmp_path, seconds=0.2, offer=offer, merge=False) as made:
        settled = replace(run_spec(), workload="what it was")
        text = spec.run_to_json(settled)
        made.store.move_run(made.run.id, backend="local", spec=text)
        conductor.conduct(made.run.id)
        (row,) = made.store.measurements()
        assert (row.gpu, row.count, row.method, row.backend) == ("L4", 1, "lora", "local")
        assert (row.workload, row.step_s) == ("what it was", None)
        made.store.remove_run(made.run.id)
        assert len(made.store.measurements()) == 1


def test_what_cannot_be_estimated_is_not_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FTLAUNCH_STATE_DIR", str(tmp_path / "state"))
    with toy(tmp_path, seconds=0.2, merge=False) as made:
        conductor.conduct(made.run.id)
        assert made.store.measurements() == []


def test_time_in_which_this_computer_slept_is_no_part_of_a_launch_or_a_pull(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FTLAUNCH_STATE_DIR", str(tmp_path / "state"))
    hours = itertools.count()
    slept = lambda: stored(datetime.now(UTC) + timedelta(hours=next(hours)))  # noqa: E731
    monkeypatch.setattr("launcher.store.jobs.now", slept)
    with toy(tmp_path, seconds=0.2, offer=Offer("local", "L4", 1, FREE), merge=False) as made:
        text = spec.run_to_json(replace(run_spec(), workload="what it was"))
        made.store.move_run(made.run.id, backend="local", spec=text)
        conductor.conduct(made.run.id)
        (job,) = made.store.jobs(made.run.id)
        assert job.intent_at is not None
        assert job.launched_at is not None
        assert job.launched_at - job.intent_at > timedelta(minutes=50)
        (row,) = made.store.measurements()
        assert {"start", "pull"} <= set(row.seconds)
        assert 0 < row.seconds["start"] < 3000
        assert 0 < row.seconds["pull"] < 3000


def test_a_launch_that_was_not_seen_whole_is_not_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FTLAUNCH_STATE_DIR", str(tmp_path / "state"))
    with toy(tmp_path, seconds=0.2, offer=Offer("local", "L4", 1, FREE), merge=False) as made:
        text = spec.run_to_json(replace(run_spec(), workload="what it was"))
        made.store.move_run(made.run.id, backend="local", spec=text)
        made.store.mark_intent(made.store.jobs(made.run.id)[0].id)
        conductor.conduct(made.run.id)
        (row,) = made.store.measurements()
        assert "start" not in row.seconds
        assert "pull" in row.seconds
