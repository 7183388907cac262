"""Where a run goes with `-b auto`, and where else: before it begins, and once it has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from backends.offer import Money, Offer
from launcher.on_finish import bills
from launcher.plan_text import hardware
from launcher.planning import Prepared
from launcher.quotes.automatic import Candidate
from launcher.quotes.words import hourly, money, time_words
from launcher.run.marks import MOVED
from launcher.run.spec import offer_from_json, run_from_json
from launcher.store import RunRecord, Store


def show(prepared: Prepared) -> None:
    """The order that the offers are tried in, and what was left out."""
    if prepared.order is None:
        return
    click.echo("  tried in this order, the next one when there is no capacity, and only then:")
    for number, one in enumerate(prepared.order.candidates, 1):
        click.echo(f"  {number:>3}. {_line(one)}")
    for why in prepared.order.left_out:
        click.echo(f"       not {why}")


def _line(one: Candidate) -> str:
    offer = one.quote.offer
    where = f" in {offer.region}" if offer.region else ""
    spot = ", spot" if offer.spot else ""
    whole = "" if one.quote.cost is None else f", {money(one.quote.cost)} in all"
    took = "" if one.quote.hours is None else f", {time_words(one.quote.hours)}"
    tight = ", a tight fit" if one.quote.fits == "tight" else ""
    dated = ", by a dated list" if one.doubt else ""
    price = f"{hourly(offer)} an hour"
    return f"{one.spec}: {hardware(offer)}{where}{spot}, {price}{whole}{took}{tight}{dated}"


def offers(prepared: Prepared) -> list[Offer]:
    """All that the run may come to run on."""
    return [prepared.offer, *(one.offer for one in prepared.run.elsewhere)]


def may_bill(prepared: Prepared) -> bool:
    """Whether it may come to cost anything."""
    return any(map(bills, offers(prepared)))


def price_words(prepared: Prepared) -> str:
    """What is agreed to, an hour: of several offers the first, and the dearest in each currency."""
    first = prepared.offer.price
    most: dict[str, Money] = {}
    for offer in offers(prepared):
        known = most.get(offer.price.currency)
        if known is None or known.amount < offer.price.amount:
            most[offer.price.currency] = offer.price
    above = [str(price) for price in most.values() if price != first and price.amount]
    if not above:
        return str(first)
    return f"{first}, or elsewhere up to {' or '.join(above)},"


def document(prepared: Prepared) -> list[dict[str, Any]] | None:
    """The order as data; None: there is one place only, and it was named."""
    if prepared.order is None:
        return None
    return [
        {
            **_offer(one.spec, one.quote.offer),
            "fits": one.quote.fits,
            "cost": None if one.quote.cost is None else [str(m.amount) for m in one.quote.cost],
            "hours": None if one.quote.hours is None else one.quote.hours.middle,
            "doubt": one.doubt,
        }
        for one in prepared.order.candidates
    ]


def told(store: Store, run: RunRecord) -> list[dict[str, Any]]:
    """The offers of a run that may go elsewhere: refused, taken and left; and what was left out."""
    events = [event for event in store.events(run.id) if event.kind == MOVED]
    settled = run_from_json(store.run_spec(run.id))
    if not (events or settled.elsewhere or settled.left_out):
        return []
    rows = [
        {**event.data["refused"], "state": "refused", "why": event.data["why"]} for event in events
    ]
    trained = [job for job in store.jobs(run.id) if job.kind == "train"][-1:]
    note = events[-1].data.get("note", "") if events else ""
    rows += [
        {**_offer(job.backend, offer_from_json(job.offer)), "state": "taken", "why": note}
        for job in trained
    ]
    rows += [{**_offer(one.backend, one.offer), "state": "next"} for one in settled.elsewhere]
    return rows + [{"state": "left out", "why": why} for why in settled.left_out]


def row_text(row: Mapping[str, Any]) -> str:
    """One of them in a line."""
    why = f": {row['why']}" if row.get("why") else ""
    if "backend" not in row:
        return f"{row['state']}{why}"
    gpu = f"{row['gpu']} x {row['count']}" if row["gpu"] else "CPU only"
    where = f" in {row['region']}" if row["region"] else ""
    return f"{row['state']}: {row['backend']}, {gpu}{where}{why}"


def _offer(spec: str, offer: Offer) -> dict[str, Any]:
    return {
        "backend": spec,
        "gpu": offer.gpu,
        "count": offer.count,
        "region": offer.region,
        "spot": offer.spot,
        "price_per_hour": str(offer.price.amount),
        "currency": offer.price.currency,
    }
