"""Which of its other offers a run goes to next, at what they cost today.

The order was made with the plan, and a queue may have been waited in for hours since: before the
run goes anywhere, that provider is asked again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from backends.errors import FtlaunchError
from backends.offer import Need, Offer
from launcher import choosing
from launcher.on_finish import bills
from launcher.plan_text import hardware
from launcher.run import limits
from launcher.run.desk import Desk
from launcher.run.spec import Elsewhere
from launcher.store import JobRecord


@dataclass(frozen=True)
class Next:
    """What the run goes to.

    there   the offer, at today's price; None: none of them can be had and keeps the limits
    passed  those before it that are passed over, and why, a sentence each
    rest    those after it
    note    what there is to say of the price: it is another today, or it could not be asked
    """

    there: Elsewhere | None
    passed: tuple[str, ...]
    rest: tuple[Elsewhere, ...] = ()
    note: str = ""


def choose(desk: Desk, job: JobRecord) -> Next:
    """The first of the run's other offers that can be had now and keeps to what is left.

    Of a provider that does not answer the price of the plan stands.
    """
    passed: list[str] = []
    left = limits.left(desk, job)
    for number, planned in enumerate(desk.settled.elsewhere):
        there, note = _today(desk, planned)
        if there is None:
            why = "it is not offered any more"
        elif not (why := _above(desk, left, there)):
            return Next(there, tuple(passed), desk.settled.elsewhere[number + 1 :], note)
        elif note:
            why = f"{why} ({note})"
        passed.append(f"{planned.backend}, {hardware(planned.offer)}: {why}")
    return Next(None, tuple(passed))


def _today(desk: Desk, planned: Elsewhere) -> tuple[Elsewhere | None, str]:
    """The offer as it is now, and what there is to say of its price; None: it is gone."""
    offer = planned.offer
    try:
        found = _like(offer, _asked(desk, planned.backend))
    except FtlaunchError as error:
        return planned, f"{offer.price} an hour, the price of the plan: {error.message}"
    if found is None:
        return None, ""
    note = f"{found.price} an hour now, {offer.price} when it was planned"
    same = str(found.price) == str(offer.price)
    there = replace(planned, offer=found, likely_cost=_likely(planned, found))
    return there, "" if same else note


def _asked(desk: Desk, spec: str) -> Iterator[Offer]:
    """What a backend has now, of all kinds that were asked for."""
    for need in choosing.apart(desk.settled.need or Need()):
        yield from desk.backends.offers(spec, need)


def _like(planned: Offer, offers: Iterator[Offer]) -> Offer | None:
    """The same GPUs in the same place, on the same machine if there are several."""
    same = [one for one in offers if _place(one) == _place(planned)]
    return min(
        same, key=lambda one: (_machine(one) != _machine(planned), one.price.amount), default=None
    )


def _place(offer: Offer) -> Sequence[object]:
    return offer.gpu, offer.count, offer.nodes, offer.region, offer.spot


def _machine(offer: Offer) -> Sequence[object]:
    return offer.cpus, offer.memory_gib


def _likely(planned: Elsewhere, found: Offer) -> Decimal | None:
    """Dollars of the whole job at today's price: it takes as long as was estimated."""
    before, now = planned.offer.dollars(planned.offer.price), found.dollars(found.price)
    if planned.likely_cost is None or not before or now is None:
        return planned.likely_cost
    return planned.likely_cost * now / before


def _above(desk: Desk, left: limits.Left, there: Elsewhere) -> str:
    """The limit that it would break, in a phrase; empty: none that anybody knows of."""
    price, settled = there.offer.price, desk.settled
    capped = settled.max_price is not None or settled.max_cost is not None
    if capped and bills(there.offer) and price.currency != "USD":
        return f"limits are in dollars, and it is paid in {price.currency}"
    if settled.max_price is not None and price.amount > settled.max_price:
        return f"above the limit of ${settled.max_price} an hour"
    return "" if limits.allow(left, there) else "likely above what was left of the limits"
