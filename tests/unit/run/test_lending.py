"""A machine that is paid for is held on to while a planned job is to run on it."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from toy_run import Toy, toy

from backends.lease import Phase
from backends.offer import Money, Offer
from launcher.on_finish import OnFinish
from launcher.run import conductor
from launcher.run.conductor import conduct
from launcher.run.launching import launched
from launcher.store import JobRecord

PAID = Offer("local", None, 0, Money(Decimal(1)))
FREE = Offer("local", None, 0, Money(Decimal(0)))


def told(made: Toy) -> list[tuple[str, str]]:
    """What was said, with the kind of the job it was said of."""
    kinds = {job.id: job.kind for job in made.store.jobs(made.run.id)}
    events = made.store.events(made.run.id)
    return [(kinds[event.job_id], event.kind) for event in events if event.job_id is not None]


@pytest.mark.parametrize("wish", [None, OnFinish.DESTROY, OnFinish.PAUSE])
def test_a_paid_machine_is_let_go_of_after_the_merge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wish: OnFinish | None
) -> None:
    with toy(tmp_path, seconds=0.2, offer=PAID, on_finish=wish) as made:
        monkeypatch.setenv("FTLAUNCH_STATE_DIR", str(made.state))
        conduct(made.run.id)
        events = told(made)
        assert events.index(("merge", "ended")) < events.index(("train", "released"))
        assert events.index(("train", "pulled")) < events.index(("merge", "launched"))
        assert all(job.closed_at for job in made.store.jobs(made.run.id))
        assert made.store.run(made.run.id).phase is Phase.SUCCEEDED


def test_one_that_costs_nothing_is_let_go_of_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with toy(tmp_path, seconds=0.2, offer=FREE) as made:
        monkeypatch.setenv("FTLAUNCH_STATE_DIR", str(made.state))
        conduct(made.run.id)
        events = told(made)
        assert events.index(("train", "released")) < events.index(("merge", "launched"))


def test_a_merge_that_fails_is_the_run_s_verdict_and_both_are_let_go_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with toy(tmp_path, seconds=0.2, offer=PAID, fails="merge") as made:
        monkeypatch.setenv("FTLAUNCH_STATE_DIR", str(made.state))
        conduct(made.run.id)
        assert [job.phase for job in made.store.jobs(made.run.id)] == [
            Phase.SUCCEEDED,
            Phase.FAILED,
        ]
        assert all(job.closed_at for job in made.store.jobs(made.run.id))
        assert made.store.run(made.run.id).phase is Phase.FAILED


def test_a_training_that_fails_takes_its_merge_and_its_machine_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with toy(tmp_path, seconds=0.2, offer=PAID, fails="train") as made:
        monkeypatch.setenv("FTLAUNCH_STATE_DIR", str(made.state))
        conduct(made.run.id)
        train, merge = made.store.jobs(made.run.id)
        assert (train.phase, merge.phase) == (Phase.FAILED, Phase.STOPPED)
        assert train.closed_at
        assert merge.launched_at is None
        assert made.store.run(made.run.id).phase is Phase.FAILED


def test_nothing_is_held_for_a_merge_that_lacks_its_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NOT_HERE", raising=False)
    with toy(tmp_path, seconds=0.2, offer=PAID, merge_secrets=("NOT_HERE",)) as made:
        monkeypatch.setenv("FTLAUNCH_STATE_DIR", str(made.state))
        with pytest.raises(SystemExit):
            conduct(made.run.id)
        train, merge = made.store.jobs(made.run.id)
        assert train.closed_at
        assert not merge.closed_at


def test_files_that_cost_next_to_nothing_wait_for_the_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no machine is held, what the next job builds on stays until it can be launched."""
    monkeypatch.delenv("NOT_HERE", raising=False)
    offer = replace(PAID, ends=True)
    with toy(tmp_path, seconds=0.2, offer=offer, merge_secrets=("NOT_HERE",)) as made:
        monkeypatch.setenv("FTLAUNCH_STATE_DIR", str(made.state))
        with pytest.raises(SystemExit):
            conduct(made.run.id)
        train, merge = made.store.jobs(made.run.id)
        assert (bool(train.pulled_at), train.closed_at, merge.closed_at) == (True, None, None)
        monkeypatch.setenv("NOT_HERE", "is here")
        conduct(made.run.id)
        train, merge = made.store.jobs(made.run.id)
        assert train.closed_at
        assert merge.phase is Phase.SUCCEEDED


def test_a_conductor_that_breaks_lets_go_of_what_it_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(desk: object, job: JobRecord) -> None:
        if job.kind == "merge":
            raise ZeroDivisionError
        return launched(desk, job)  # type: ignore[arg-type, return-value]

    with toy(tmp_path, seconds=0.2, offer=PAID) as made:
        monkeypatch.setenv("FTLAUNCH_STATE_DIR", str(made.state))
        monkeypatch.setattr(conductor, "launched", broken)
        with pytest.raises(ZeroDivisionError):
            conduct(made.run.id)
        assert made.store.jobs(made.run.id)[0].closed_at
