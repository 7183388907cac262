"""What `ftlaunch estimate` shows of its quotes: a table, its terms, or a document."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from launcher.plan_text import hardware

if TYPE_CHECKING:
    from launcher.quotes.advice import Advice
    from launcher.quotes.quote import Quote
    from launcher.quotes.workload import Workload

_SHOWN = 12


def facts(work: Workload) -> dict[str, Any]:
    """The model and the data, as the document has them."""
    data = work.data
    return {
        "model": {
            "name": work.shape.name,
            "params": work.shape.params,
            "source": work.shape.source,
        },
        "why_no_data": work.why_no_data or None,
        "data": None
        if data is None
        else {"rows": data.rows, "tokens": data.tokens, "longest": data.longest, "how": data.how},
    }


def heading(work: Workload) -> None:
    """The model and the data, a line each."""
    from launcher.quotes.words import parameters

    size = parameters(work.shape.params)
    click.echo(f"model: {work.shape.name}, {size} ({work.shape.source})")
    data = work.data
    if data is None:
        most = work.schedule.max_steps
        steps = "" if most is None else f"; max_steps is {most}"
        click.echo(f"data:  not known: {work.why_no_data}{steps} (say it with --tokens)")
        return
    click.echo(f"data:  {data.rows:,} rows, {data.tokens:,} tokens an epoch ({data.how})")


def few(quotes: list[Quote]) -> list[Quote]:
    """Of each kind of GPU at each backend the best number; of each backend one at least."""
    kinds: dict[tuple[str, str | None], Quote] = {}
    for one in quotes:
        kinds.setdefault((one.priced.backend, one.offer.gpu), one)
    best = list(kinds.values())
    first = {id(one) for one in {one.priced.backend: one for one in reversed(best)}.values()}
    return [one for number, one in enumerate(best) if number < _SHOWN or id(one) in first]


def table(quotes: list[Quote], now: datetime) -> None:
    """A row for each; the first that fits is marked, of all and of each backend."""
    from launcher.cli import tables

    heading = ("", "BACKEND", "WHERE", "GPU", "MEMORY", "FITS", "TIME", "WHOLE JOB", "AN HOUR")
    rows: list[tuple[str, ...]] = [(*heading, "PRICES")]
    best: set[str] = set()
    for number, one in enumerate(quotes):
        mark = ""
        if one.fits in {"yes", "tight"} and one.priced.backend not in best:
            best.add(one.priced.backend)
            mark = "**" if number == 0 else "*"
        rows.append((mark, *_row(one), _age(one, now)))
    tables.table(rows)
    click.echo("** the first that fits, * the first of its backend; ranges hold in 4 of 5 cases")


def learned(quotes: list[Quote]) -> None:
    """On which GPUs the estimate was drawn to what your own runs took."""
    from launcher.quotes.words import drawn

    told = {
        f"{one.offer.gpu} x {one.offer.count}: {text}": None
        for one in quotes
        if (text := drawn(one.pace, one.held))
    }
    for line in told:
        click.echo(f"  {line}")


def advise(found: list[Advice], best: Quote) -> None:
    """What would make it cheaper, each to be pasted."""
    if found:
        click.echo("cheaper:")
    for line in changes(found, best):
        click.echo(f"  {line}")


def changes(found: list[Advice], best: Quote | None) -> Iterator[str]:
    """Two lines each: what it is and brings, and how it is typed."""
    for one in found:
        offer, cost, held = one.best.offer, one.best.cost, one.best.memory
        dollars = "" if cost is None else f", {cost[1]}"
        if best is not None and best.cost is not None and cost is not None:
            dollars += f" instead of {best.cost[1]}"
        memory = "" if held is None else f" ({held.nvml.middle:.0f} of {held.usable:.0f} GiB)"
        where = f"{hardware(offer)} at {one.best.priced.backend}"
        yield f"{one.change.what}: {where}{memory}{dollars} ({one.change.price})"
        yield "  " + " ".join(f"--set {shlex.quote(each)}" for each in one.change.sets)


def explain(one: Quote) -> None:
    """The terms of its memory, what was learnt, and the minutes of each phase."""
    click.echo(f"\n{hardware(one.offer)} at {one.priced.backend}:")
    if one.memory is not None:
        click.echo(f"  memory at its most ({one.memory.phase}), GiB:")
        for name, amount in one.memory.terms.items():
            if amount >= 0.005:
                click.echo(f"    {name:<12} {amount:8.2f}")
    from launcher.quotes.words import drawn

    if learned := drawn(one.pace, one.held):
        click.echo(f"  {learned}")
    for name, took in one.phases.items():
        if took.high:
            click.echo(
                f"  {name:<12} {took.middle / 60:7.1f} min "
                f"({took.low / 60:.1f} to {took.high / 60:.1f})"
            )


def document(one: Quote, now: datetime) -> dict[str, Any]:
    """One quote for a program to read."""
    offer, held = one.offer, one.memory
    return {
        "backend": one.priced.backend,
        "region": offer.region,
        "gpu": offer.gpu,
        "count": offer.count,
        "nodes": offer.nodes,
        "spot": offer.spot,
        "fits": one.fits,
        "memory_gib": None
        if held is None
        else {"low": held.nvml.low, "likely": held.nvml.middle, "high": held.nvml.high},
        "usable_gib": None if held is None else held.usable,
        "hours": None
        if one.hours is None
        else {"low": one.hours.low, "likely": one.hours.middle, "high": one.hours.high},
        "cost": None
        if one.cost is None
        else dict(zip(("low", "likely", "high"), (str(m.amount) for m in one.cost), strict=True)),
        "currency": offer.price.currency,
        "price_per_hour": str(offer.price.amount),
        "usd_per_hour": None if (usd := offer.dollars(offer.price)) is None else str(usd),
        "stale": one.priced.is_stale(now),
        "learned": {
            "runs": max(one.pace.runs, one.held.runs),
            "time_factor": one.pace.factor,
            "time_weight": one.pace.weight,
            "memory_factor": one.held.factor,
            "memory_weight": one.held.weight,
        },
        "source": offer.source,
        "read_at": None if offer.read_at is None else offer.read_at.isoformat(),
    }


def _row(one: Quote) -> tuple[str, ...]:
    from launcher.quotes.words import hourly, money, time_words

    offer = one.offer
    held = one.memory
    gpu = hardware(offer) if offer.gpu else "no GPU"
    memory = "" if held is None else f"{held.nvml.middle:.0f} of {held.usable:.0f} GiB"
    spot = ", spot" if offer.spot else ""
    return (
        one.priced.backend,
        f"{offer.region or '-'}{spot}",
        gpu,
        memory,
        one.fits,
        "" if one.hours is None else time_words(one.hours),
        "" if one.cost is None else money(one.cost),
        hourly(offer),
    )


def _age(one: Quote, now: datetime) -> str:
    read = one.offer.read_at
    day = "of an unknown day" if read is None else f"{read:%Y-%m-%d}"
    return f"{day}, old" if one.priced.is_stale(now) else day
