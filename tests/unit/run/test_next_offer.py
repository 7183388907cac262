"""Before a run goes to its next offer that is asked for again: is it there, at what price?"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from auto_places import (
    FULL,
    OFFER,
    OTHER,
    PLACES,
    QUEUED,
    Place,
    desk_of,
    finished,
    job_of,
    waited,
    with_likely,
)
from auto_run import auto, no_software
from toy_run import Toy

from backends import Observation, Phase
from backends.errors import CredentialsMissing, FtlaunchError, NoCapacity, Unreachable
from backends.offer import Money, Need, Offer
from launcher.cli import epilogue, order_view
from launcher.run import moving, spec
from launcher.run.limits import deadline
from launcher.run.limits import left as left_for
from launcher.run.spec import RunSpec
from launcher.store import open_store


@pytest.fixture(autouse=True)
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FTLAUNCH_STATE_DIR", str(tmp_path / "state"))
    no_software(monkeypatch)


def told(made: Toy, kind: str) -> list[str]:
    return [event.text for event in made.store.events(made.run.id) if event.kind == kind]


def settled_of(made: Toy) -> RunSpec:
    return spec.run_from_json(made.store.run_spec(made.run.id))


DEARER = replace(OTHER, price=Money(Decimal(3)))


def test_the_next_offer_is_taken_at_the_price_of_today(tmp_path: Path) -> None:
    first, second = Place("first", fails=FULL), Place("second", has=[DEARER])
    with auto(tmp_path, PLACES, max_cost=Decimal(6)) as made:
        finished(made, first, second)
        taken = job_of(made, 1)
        assert spec.offer_from_json(taken.offer).price == DEARER.price
        assert deadline(desk_of(made), taken) == timedelta(hours=2)
        (text,) = told(made, "elsewhere")
        assert text.endswith("at second, $3.00 an hour now, $2.00 when it was planned")
    (row,) = [row for row in rows_of(made.state) if row["state"] == "taken"]
    assert row["why"] == "$3.00 an hour now, $2.00 when it was planned"


def rows_of(state: Path) -> list[dict[str, Any]]:
    """What `inspect` tells of the offers."""
    with contextlib.closing(open_store(state)) as store:
        return order_view.told(store, store.run("auto"))


DEAR = "$3.00 an hour now, $2.00 when it was planned"
RUPEES = "INR 80.00 an hour now, $2.00 when it was planned"
NO_ANSWER = [Unreachable("no answer"), CredentialsMissing("no key")]


@pytest.mark.parametrize("error", NO_ANSWER, ids=lambda error: type(error).__name__)
def test_who_does_not_answer_is_gone_to_at_the_price_of_the_plan(
    tmp_path: Path, error: FtlaunchError
) -> None:
    first, second = Place("first", fails=FULL), Place("second", has=error)
    with auto(tmp_path, PLACES) as made:
        finished(made, first, second)
        assert spec.offer_from_json(job_of(made, 1).offer) == OTHER
        (text,) = told(made, "elsewhere")
        assert text.endswith(f"$2.00 an hour, the price of the plan: {error.message}")


@pytest.mark.parametrize(
    ("has", "limits", "why"),
    [
        ([], {}, "it is not offered any more"),
        ([replace(OTHER, count=1)], {}, "it is not offered any more"),
        ([replace(OTHER, region="there")], {}, "it is not offered any more"),
        (
            [DEARER],
            {"max_price": Decimal("2.50")},
            f"above the limit of $2.50 an hour ({DEAR})",
        ),
        (
            [DEARER],
            {"max_cost": Decimal(7)},
            f"likely above what was left of the limits ({DEAR})",
        ),
        (
            [replace(OTHER, price=Money(Decimal(80), "INR"))],
            {"max_cost": Decimal(7)},
            f"limits are in dollars, and it is paid in INR ({RUPEES})",
        ),
    ],
    ids=["gone", "another number", "another place", "price", "cost", "rupees"],
)
def test_what_cannot_be_had_any_more_or_breaks_a_limit_today_is_passed_over(
    tmp_path: Path, has: list[Offer], limits: dict[str, Decimal], why: str
) -> None:
    first, third = Place("first", fails=FULL), replace(OTHER, backend="third")
    second = Place("second", has=has)
    with auto(tmp_path, [*PLACES, ("third", third)], **limits) as made:
        with_likely(made, ("5", 2.5), ("5", 2.5))
        finished(made, first, second)
        assert made.store.run(made.run.id).backend == "third"
        assert settled_of(made).left_out == (f"second, A100-80GB x 2: {why}",)
        assert second.asked == []


def test_what_has_become_cheaper_is_taken_although_the_plan_had_it_above(tmp_path: Path) -> None:
    cheap = replace(OTHER, price=Money(Decimal(1)))
    first, second = Place("first", fails=FULL), Place("second", has=[cheap])
    with auto(tmp_path, PLACES, max_cost=Decimal(4)) as made:
        with_likely(made, ("5", 2.5))
        finished(made, first, second)
        assert made.store.run(made.run.id).backend == "second"


def test_of_several_machines_the_one_that_was_planned_is_taken(tmp_path: Path) -> None:
    planned, other = replace(OTHER, cpus=16), replace(OTHER, cpus=8, price=Money(Decimal(1)))
    second = Place("second", has=[other, planned])
    with auto(tmp_path, [("first", OFFER), ("second", planned)]) as made:
        finished(made, Place("first", fails=FULL), second)
        assert spec.offer_from_json(job_of(made, 1).offer) == planned


def test_every_ranked_kind_is_asked_for_by_itself(tmp_path: Path) -> None:
    asked: list[Need] = []

    class Ranks(Place):
        def offers(self, need: Need, *, live: bool) -> Sequence[Offer]:
            asked.append(need)
            return super().offers(need, live=live)

    with auto(tmp_path, PLACES) as made:
        ranked = Need(gpus=(("H100", 1), ("A100-80GB", 2)))
        text = spec.run_to_json(replace(settled_of(made), need=ranked))
        made.store.move_run(made.run.id, backend="first", spec=text)
        finished(made, Place("first", fails=FULL), Ranks("second"))
        assert [need.gpus for need in asked] == [(("H100", 1),), (("A100-80GB", 2),)]
        assert made.store.run(made.run.id).backend == "second"


def test_where_all_others_are_gone_the_run_ends_and_says_so(tmp_path: Path) -> None:
    first, second = Place("first", fails=FULL), Place("second", has=[])
    with auto(tmp_path, PLACES) as made:
        finished(made, first, second)
        assert made.store.run(made.run.id).phase is Phase.FAILED
        assert job_of(made).reason == "nothing is free"
        assert settled_of(made).elsewhere == ()
    why = "second, A100-80GB x 2: it is not offered any more"
    assert rows_of(made.state)[-1] == {"state": "left out", "why": why}


def test_a_queue_is_not_left_for_what_cannot_be_had(tmp_path: Path) -> None:
    second = Place("second", has=[])
    with auto(tmp_path, [("first", QUEUED), ("second", OTHER)]) as made:
        job, desk = waited(made, 11), desk_of(made, Place("first"), second)
        for _ in range(3):
            moving.require_patience(desk, job, Observation(Phase.QUEUED))
        assert second.looked == 1, "it is asked with every look"
        why = "second, A100-80GB x 2: it is not offered any more"
        assert told(made, "stays") == [
            f"train stays in its queue, the others are passed over: {why}"
        ]
        again = desk_of(made, Place("first"), Place("second", has=[OTHER]))  # a minute later
        with pytest.raises(NoCapacity):
            moving.require_patience(again, job, Observation(Phase.QUEUED))


def billed(dollars: str, currency: str = "USD") -> NoCapacity:
    """No capacity, after a machine was made and let go of again."""
    error = NoCapacity("it was taken away while it started")
    error.billed = Money(Decimal(dollars), currency)
    return error


def test_what_refused_launches_have_billed_is_taken_off_the_limits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    third = replace(OTHER, backend="third", price=Money(Decimal("0.1")))
    first, second = Place("first", fails=billed("0.30")), Place("second", fails=billed("0.25"))
    places = [*PLACES, ("third", third), ("fourth", OTHER)]
    with auto(tmp_path, places, max_cost=Decimal(1)) as made:
        with_likely(made, ("0.7", 1), ("0.46", 1), ("0.45", 1))
        finished(made, first, second)
        assert settled_of(made).left_out == (
            "third, A100-80GB x 2: likely above what was left of the limits",
        )
        costs = [job.cost for job in made.store.jobs(made.run.id)]
        assert costs[:2] == [Money(Decimal("0.30")), Money(Decimal("0.25"))]
        last = job_of(made, 2)
        assert (last.backend, last.phase) == ("fourth", Phase.SUCCEEDED)
        assert left_for(desk_of(made), last).cost == Decimal("0.45")
        assert "what was rented for train is let go of again; it has cost $0.30" in told(
            made, "in vain"
        )
        epilogue.tell_end(made.store, made.store.run(made.run.id))
    assert "nothing runs any more; auto has cost $0.55 so far" in capsys.readouterr().out


def test_with_nothing_left_of_the_limits_the_run_stays_where_it_was_billed(tmp_path: Path) -> None:
    first, second = Place("first", fails=billed("1.00")), Place("second")
    with auto(tmp_path, PLACES, max_cost=Decimal(1)) as made:
        finished(made, first, second)
        assert second.asked == []
        assert made.store.run(made.run.id).phase is Phase.FAILED
        assert job_of(made).cost == Money(Decimal("1.00"))
