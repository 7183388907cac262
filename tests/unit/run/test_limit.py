"""A run's limit in time: shared by what was planned together, whole for what is asked for later."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from toy_run import job, run_spec, toy

from backends import Capped, Phase
from launcher.run import spec
from launcher.run.desk import Desk
from launcher.run.launching import deadline
from launcher.run.loaded import Backends
from launcher.store import JobRecord, RunRecord, Store

LIMIT = timedelta(hours=1)


def desk(store: Store, run: RunRecord, state: Path) -> Desk:
    limited = dataclasses.replace(run_spec(), max_duration=LIMIT)
    return Desk(store, run, Backends(state / "backends"), limited)


def after_training_of(store: Store, trained: JobRecord, length: timedelta) -> None:
    store.mark_launched(trained.id)
    store.mark_ended(
        trained.id,
        Phase.SUCCEEDED,
        exit_code=0,
        reason="",
        cost=None,
        ended_at=datetime.now(UTC) + length,
    )


def test_what_was_planned_together_shares_the_limit(tmp_path: Path) -> None:
    with toy(tmp_path) as made:
        work = desk(made.store, made.run, made.state)
        trained, merge = made.store.jobs(made.run.id)
        assert deadline(work, trained) == LIMIT
        after_training_of(made.store, trained, timedelta(minutes=40))
        left = deadline(work, merge)
        assert left is not None
        assert timedelta(minutes=19) < left < timedelta(minutes=21)


def test_a_limit_that_is_used_up_is_said_and_not_made_a_second(tmp_path: Path) -> None:
    with toy(tmp_path) as made:
        work = desk(made.store, made.run, made.state)
        trained, merge = made.store.jobs(made.run.id)
        after_training_of(made.store, trained, timedelta(minutes=61))
        with pytest.raises(Capped, match="nothing is left"):
            deadline(work, merge)


def test_what_is_asked_for_later_has_the_whole_limit_and_a_question_none(tmp_path: Path) -> None:
    with toy(tmp_path) as made:
        work = desk(made.store, made.run, made.state)
        trained, _ = made.store.jobs(made.run.id)
        after_training_of(made.store, trained, timedelta(minutes=61))
        for kind, limit in (("merge", LIMIT), ("inference", None)):
            text = spec.job_to_json(job(kind, seconds=1))
            later = made.store.add_job(
                run_id=made.run.id, kind=kind, name=f"later-{kind}", spec=text, offer="{}"
            )
            assert deadline(work, later) == limit
