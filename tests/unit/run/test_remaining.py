"""What runs leave at a provider is said wherever a user may look, until it is gone."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from toy_run import Toy, toy

from backends.errors import CredentialsMissing
from backends.job import Files
from backends.lease import Lease, Phase
from backends.offer import FREE, Money, Offer
from launcher.cli import cli, epilogue
from launcher.cli.ending import run as command
from launcher.run.remaining import remainders

PAID = Offer("far", None, 0, Money(Decimal(1)))
COSTS = Money(Decimal("0.25"))
KEPT = "toy keeps its files at far, where storage is billed; end that with: ftlaunch rm toy"


def close(made: Toy, *, kept: bool, phase: Phase = Phase.SUCCEEDED) -> None:
    """All jobs of the run ended and were let go of."""
    for job in made.store.jobs(made.run.id):
        files = Files("far", job.name)
        made.store.mark_intent(job.id)
        made.store.save_lease(job.id, Lease("far", "1", job.name, files, datetime.now(UTC)))
        made.store.mark_launched(job.id)
        made.store.mark_ended(job.id, phase, exit_code=3, reason="no luck", cost=COSTS)
        made.store.mark_pulled(job.id)
        made.store.mark_closed(job.id, files if kept else None)
    made.store.set_run(made.run.id, phase)


@pytest.mark.parametrize(
    ("offer", "kept", "found"),
    [(PAID, True, 1), (PAID, False, 0), (Offer("far", None, 0, FREE), True, 0)],
)
def test_what_is_kept_and_costs_money_is_found(
    tmp_path: Path, offer: Offer, kept: bool, found: int
) -> None:
    with toy(tmp_path, backend="far", offer=offer) as made:
        assert remainders(made.store) == []
        close(made, kept=kept)
        assert len(remainders(made.store)) == found
        assert len(remainders(made.store, "far")) == found
        assert remainders(made.store, "another") == []


def test_a_list_of_runs_says_it_also_when_none_is_alive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with toy(tmp_path, backend="far", offer=PAID) as made:
        close(made, kept=True)
        monkeypatch.setenv("FTLAUNCH_STATE_DIR", str(made.state))
        assert command(cli, ["ps"]) == 0
        assert capsys.readouterr().err.strip() == KEPT
        assert command(cli, ["inspect", "toy"]) == 0
        assert capsys.readouterr().out.count("ftlaunch rm toy") == 2


def test_a_list_of_runs_says_what_each_has_cost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with toy(tmp_path, backend="far", offer=PAID) as made:
        close(made, kept=False)
        monkeypatch.setenv("FTLAUNCH_STATE_DIR", str(made.state))
        assert command(cli, ["ps", "-a"]) == 0
        heading, row = capsys.readouterr().out.splitlines()
        assert "COST" in heading
        assert "$0.50" in row


class Deaf:
    """Backends that are asked for a bill, and do not accept the account's key."""

    def of(self, job: object) -> Deaf:
        return self

    name = "far"

    def billed(self, lease: object) -> None:
        raise CredentialsMissing("the key is not accepted")


def test_a_bill_that_cannot_be_asked_for_is_not_said_to_be_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with toy(tmp_path, backend="far", offer=PAID) as made:
        close(made, kept=False)
        monkeypatch.setenv("FTLAUNCH_STATE_DIR", str(made.state))
        monkeypatch.setattr("launcher.cli.facts.Backends", Deaf)
        assert command(cli, ["inspect", "toy", "--bill"]) == 0
        told = capsys.readouterr().out
        assert told.count("not known: the key is not accepted") == 2
        assert "None" not in told


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        (True, ["nothing runs any more; toy has cost $0.50 so far", KEPT]),
        (False, ["nothing runs any more; toy has cost $0.50 so far"]),
    ],
)
def test_the_end_says_what_it_cost_and_what_comes_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kept: bool, said: list[str]
) -> None:
    with toy(tmp_path, backend="far", offer=PAID) as made:
        epilogue.tell_end(made.store, made.run)
        assert capsys.readouterr().out == ""
        close(made, kept=kept)
        epilogue.tell_end(made.store, made.run)
        lines = capsys.readouterr().out.splitlines()
        assert lines[:-1] == said
        assert "ftlaunch inference toy" in lines[-1]


def test_waiting_for_a_run_that_failed_says_why_and_where_to_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with toy(tmp_path, backend="far", offer=PAID) as made:
        close(made, kept=False, phase=Phase.FAILED)
        monkeypatch.setenv("FTLAUNCH_STATE_DIR", str(made.state))
        assert command(cli, ["wait", "toy"]) == 1
        said = capsys.readouterr()
        assert said.out.splitlines()[0] == "toy: failed (merge failed: no luck)"
        assert "ftlaunch logs toy" in said.err
