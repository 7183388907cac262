"""A run's limit in time: shared by what was planned together, whole for what is asked for later."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from toy_run import job, run_spec, toy

from backends import Capped, Money, Offer, Phase
from launcher.run import spec
from launcher.run.desk import Desk
from launcher.run.limits import deadline
from launcher.run.loaded import Backends
from launcher.store import JobRecord, RunRecord, Store

LIMIT = timedelta(hours=1)


def desk(store: Store, run: RunRecord, state: Path, **limits: object) -> Desk:
    limited = dataclasses.replace(run_spec(), **(limits or {"max_duration": LIMIT}))  # type: ignore[arg-type]
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
                run_id=made.run.id,
                kind=kind,
                name=f"later-{kind}",
                spec=text,
                offer=made.store.job(trained.id).offer,
            )
            assert deadline(work, later) == limit


PLAIN = Offer("modal", None, 0, Money(Decimal("0.5")), ends=True)
GPU = Offer("modal", "H100", 1, Money(Decimal(5)), plain=PLAIN, ends=True)


def test_a_limit_in_dollars_is_spent_at_the_price_of_each_job(tmp_path: Path) -> None:
    """An hour without a GPU costs a tenth of a training's, and leaves it nine tenths."""
    with toy(tmp_path, backend="modal", offer=PLAIN) as made:
        work = desk(made.store, made.run, made.state, max_cost=Decimal(5))
        ready, _ = made.store.jobs(made.run.id)
        assert deadline(work, ready) == timedelta(hours=10)
        made.store.mark_launched(ready.id)
        # It was queued for most of this day; what it costs is what it worked for.
        late = datetime.now(UTC) + timedelta(hours=20)
        cost = Money(Decimal("0.5"))
        made.store.mark_ended(
            ready.id, Phase.SUCCEEDED, exit_code=0, reason="", cost=cost, ended_at=late
        )
        text = spec.job_to_json(dataclasses.replace(job("train", seconds=1), after_success=True))
        later = made.store.add_job(
            run_id=made.run.id, kind="train", name="t", spec=text, offer=spec.offer_to_json(GPU)
        )
        assert deadline(work, later) == timedelta(hours=0.9)


def test_a_machine_is_paid_for_while_it_is_held(tmp_path: Path) -> None:
    machine = Offer("jarvis", "L4", 1, Money(Decimal(2)))
    with toy(tmp_path, backend="jarvis", offer=machine) as made:
        work = desk(made.store, made.run, made.state, max_cost=Decimal(2))
        trained, merge = made.store.jobs(made.run.id)
        after_training_of(made.store, trained, timedelta(minutes=45))
        left = deadline(work, merge)
        assert left is not None
        assert timedelta(minutes=14) < left < timedelta(minutes=16)
        dear = desk(made.store, made.run, made.state, max_cost=Decimal("1.5"))
        with pytest.raises(Capped, match=r"limit of 1\.5 dollars"):
            deadline(dear, merge)


def test_the_shorter_of_two_limits_holds(tmp_path: Path) -> None:
    with toy(tmp_path, backend="modal", offer=GPU) as made:
        trained, _ = made.store.jobs(made.run.id)
        for duration, cost, least in ((2, 5, 1), (1, 50, 1), (3, 10, 2)):
            limits = {"max_duration": timedelta(hours=duration), "max_cost": Decimal(cost)}
            work = desk(made.store, made.run, made.state, **limits)
            assert deadline(work, trained) == timedelta(hours=least)
