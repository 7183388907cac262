"""What an offer comes to: whether it fits, the hours and the dollars."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from backends.offer import Money, Offer
from launcher.estimate import Range, Setup, shapes
from launcher.quotes import quote
from launcher.quotes.market import STALE, Priced
from launcher.quotes.rows import Data
from launcher.quotes.schedule import Schedule
from launcher.quotes.workload import Workload

NOW = datetime(2026, 11, 27, tzinfo=UTC)
WORK = Workload(
    shape=shapes.find("meta-llama/Llama-3.1-8B"),
    setup=Setup(seq_len=2048, micro_batch=1, grad_accum=4),
    data=Data(1000, 2_000_000, 2048, 2048.0, "test"),
    schedule=Schedule(),
    merges=True,
)
PLAIN = Offer("modal", None, 0, Money(Decimal("0.30")))


def priced(gpu: str | None, dollars: str, count: int = 1, **more: Any) -> Priced:
    price = Money(Decimal(dollars) * count)
    return Priced("modal", Offer("modal", gpu, count, price, read_at=NOW, **more))


def of(one: Priced, work: Workload = WORK) -> quote.Quote:
    (found,) = quote.all_of(work, [one])
    return found


def test_a_model_that_is_too_large_does_not_fit() -> None:
    full = replace(WORK, setup=WORK.setup.but(method="full", targets=(), rank=1))
    assert of(priced("T4", "0.59"), full).fits == "no"
    assert of(priced("B300", "7.10")).fits == "yes"


def test_a_gpu_without_figures_is_not_guessed() -> None:
    found = of(priced("Whatever-9000", "1"))
    assert (found.fits, found.hours, found.cost) == ("unknown", None, None)
    assert of(priced(None, "1")).fits == "unknown"


def test_without_data_there_are_no_hours_but_max_steps_says_enough() -> None:
    nothing = replace(WORK, data=None)
    assert of(priced("H100", "3.95"), nothing).hours is None
    assert (
        of(priced("H100", "3.95"), replace(nothing, schedule=Schedule(max_steps=10))).hours
        is not None
    )


def test_two_machines_take_half_the_time_at_twice_the_price() -> None:
    one = priced("H100", "3.95", 8)
    found, both = of(one), of(replace(one, offer=one.offer.of(2)))
    ratio = found.phases["train"].middle / both.phases["train"].middle
    assert 1.5 < ratio <= 2
    assert both.offer.price.amount == Decimal("63.20")


def test_twice_the_data_takes_longer_and_costs_more() -> None:
    data = WORK.data
    assert data is not None
    more = replace(WORK, data=replace(data, tokens=2 * data.tokens))
    one, two = of(priced("H100", "3.95")), of(priced("H100", "3.95"), more)
    assert one.phases["train"].middle < two.phases["train"].middle
    assert one.cost is not None
    assert two.cost is not None
    assert one.cost[1].amount < two.cost[1].amount
    assert one.cost[0].amount <= one.cost[1].amount <= one.cost[2].amount


def test_what_bills_only_while_it_works_is_not_paid_for_waiting() -> None:
    waits = of(priced("H100", "3.95"))
    works = of(priced("H100", "3.95", ends=True))
    apart = of(priced("H100", "3.95", ends=True, plain=PLAIN))
    assert waits.cost is not None
    assert works.cost is not None
    assert apart.cost is not None
    assert waits.cost[1].amount > works.cost[1].amount > apart.cost[1].amount


def test_the_cost_is_the_hours_at_the_price() -> None:
    found = of(priced("H100", "3.95"))
    assert found.hours is not None
    assert found.cost is not None
    expected = found.offer.cost_of(timedelta(hours=found.hours.middle)).amount
    assert float(found.cost[1].amount) == pytest.approx(float(expected), rel=1e-6)


def test_what_fits_comes_first_and_the_cheapest_of_it() -> None:
    offers = [priced("T4", "0.10"), priced("H100", "3.95"), priced("H200", "4.54")]
    full = replace(WORK, setup=WORK.setup.but(method="full", targets=(), rank=1, micro_batch=1))
    found = quote.ordered(quote.all_of(full, offers), "cost")
    assert found[-1].offer.gpu == "T4"
    assert [one.fits for one in found][-1] == "no"
    by_time = quote.ordered(quote.all_of(WORK, offers), "time")
    hours = [one.hours.middle for one in by_time if one.hours and one.fits == "yes"]
    assert hours == sorted(hours)


@pytest.mark.parametrize(
    ("price", "cost", "kept"),
    [(None, None, True), ("3", None, False), ("5", None, True), (None, "0.001", False)],
)
def test_limits_hold(price: str | None, cost: str | None, kept: bool) -> None:
    found = of(priced("H100", "3.95"))
    caps = quote.Caps(Decimal(price) if price else None, Decimal(cost) if cost else None)
    assert (not quote.above(found, caps)) is kept


def test_spreads_add_up_as_squares() -> None:
    assert quote._sum([Range(0, 3, 6), Range(1, 5, 9)]) == Range(3.0, 8.0, 13.0)


def test_an_old_price_is_marked() -> None:
    one = priced("H100", "3.95")
    assert not one.is_stale(NOW + STALE)
    assert one.is_stale(NOW + STALE + timedelta(days=1))
    assert Priced("x", replace(one.offer, read_at=None)).is_stale(NOW)


def test_of_one_name_in_two_sizes_the_size_of_the_offer_counts() -> None:
    """Jarvis Labs and SkyPilot call the one with 40 GB an A100."""
    small = Offer("jarvis", "A100", 1, Money(Decimal(1)), gpu_memory_gib=40)
    usual = Offer("jarvis", "A100", 1, Money(Decimal(1)))
    card = Offer("jarvis", "L4", 1, Money(Decimal(1)), gpu_memory_gib=24)
    offers = [Priced("jarvis", one) for one in (small, usual, card)]
    found = [one.memory.usable for one in quote.all_of(WORK, offers) if one.memory is not None]
    assert found == [39.39, 79.15, 22.05]
