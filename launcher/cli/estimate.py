"""`ftlaunch estimate`: every offer, whether the recipe fits, how long, how many dollars."""

from __future__ import annotations

import gc
import json
import shlex
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from launcher.cli import counting, model_shape, options
from launcher.plan_text import hardware

if TYPE_CHECKING:
    from launcher.quotes.advice import Advice
    from launcher.quotes.quote import Quote
    from launcher.quotes.workload import Workload

_SHOWN = 12


@click.command()
@click.argument("recipe", shell_complete=options.complete_recipe)
@options.backend
@options.gpu
@options.profile
@click.option("--set", "sets", multiple=True, metavar="A.B=C", help="Override a config key.")
@click.option("--data", type=click.Path(path_type=Path), help="Use this file as the data.")
@click.option("--spot", is_flag=True, help="Spot prices.")
@options.regions
@click.option("--max-price", type=options.Dollars(), help="Dollars an hour, at most.")
@click.option("--max-cost", type=options.Dollars(), help="Dollars for the whole job, at most.")
@click.option("--max-duration", type=options.Duration(), help="Of the whole job, at most.")
@click.option("--tokens", type=click.IntRange(min=1), help="Of one epoch, when nobody can count.")
@counting.option
@model_shape.options
@click.option(
    "--sort",
    type=click.Choice(["cost", "time"]),
    default="cost",
    show_default=True,
    help="By what.",
)
@click.option("--all", "everything", is_flag=True, help="Every offer, also what does not fit.")
@click.option("--live", is_flag=True, help="Ask the providers; else their dated lists are read.")
@click.option("--explain", is_flag=True, help="Show the terms of the first row.")
@options.as_json
def estimate(
    recipe: str,
    backend: str | None,
    gpus: tuple[tuple[str, int], ...],
    profile: str | None,
    sets: tuple[str, ...],
    data: Path | None,
    spot: bool,
    regions: tuple[str, ...],
    max_price: Decimal | None,
    max_cost: Decimal | None,
    max_duration: timedelta | None,
    tokens: int | None,
    count: bool,
    model_config: Path | None,
    params: int | None,
    hidden: int | None,
    layers: int | None,
    vocab: int | None,
    heads: int | None,
    kv_heads: int | None,
    intermediate: int | None,
    sort: str,
    everything: bool,
    live: bool,
    explain: bool,
    as_json: bool,
) -> int:
    """Say what RECIPE would cost, and where: no account, no network, nothing is started."""
    from backends.offer import Need
    from launcher import places
    from launcher import recipe as recipes
    from launcher.planning import AUTO
    from launcher.quotes import advice, learning, market, nothing, quote, workload
    from launcher.store import open_store

    gc.disable()  # tens of thousands of offers, and the process is over soon
    found = recipes.load(recipe, profile=profile, sets=sets, data=data, cwd=Path.cwd())
    shape = model_shape.given(
        model_config,
        params,
        hidden=hidden,
        layers=layers,
        vocab=vocab,
        heads=heads,
        kv_heads=kv_heads,
        intermediate=intermediate,
    )
    if count and tokens is None:
        counting.first(found)
    work = workload.of(found, shape=shape, tokens=tokens)
    nodes = found.launch.hardware.nodes
    need = Need(gpus=gpus, spot=spot, regions=regions, every_count=not gpus, nodes=nodes)
    names = [backend] if backend and backend != AUTO else None
    there = market.of(names, need, live=live)
    nothing.require_known(names, need, there)
    if not there.offers:
        raise nothing.why(names, need, there)
    hub = not workload.has_model(found)
    best = quote.cheapest(there.offers)
    wanted = there.offers if everything or as_json else best
    learned = learning.of(open_store(places.state_dir()).measurements())
    quoted = quote.all_of(work, wanted, hub=hub, learned=learned)
    quotes = quote.ordered(quoted, sort)  # type: ignore[arg-type]
    fitting = [one for one in quotes if one.fits in {"yes", "tight"}]
    caps = quote.Caps(max_price, max_cost, max_duration)
    kept = [one for one in fitting if not quote.above(one, caps)]
    shown = quotes if everything else kept
    if as_json:
        rows = [_document(one, market.now()) for one in shown]
        click.echo(json.dumps({**_of(work), "quotes": rows, "silent": there.silent}, indent=2))
        _require(quotes, fitting, kept, [])
        return 0
    _heading(work)
    rows_shown = shown if everything else _few(shown)
    if rows_shown:
        _table(rows_shown, market.now())
        _learned(rows_shown)
    if len(there.offers) > len(rows_shown):
        click.echo(f"the best of {len(there.offers):,} offers; every one of them: --all")
    told = advice.advice(
        found,
        work,
        best,
        fitting[0] if fitting else None,
        shape=shape,
        tokens=tokens,
        hub=hub,
        learned=learned,
    )
    if fitting:
        _advise(told, fitting[0])
    for sentence in there.silent:
        click.echo(f"  {sentence}", err=True)
    if explain and (shown or quotes):
        _explain((shown or quotes)[0])
    _require(quotes, fitting, kept, told)
    return 0


def _of(work: Workload) -> dict[str, Any]:
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


def _heading(work: Workload) -> None:
    click.echo(f"model: {work.shape.name}, {work.shape.params / 1e9:.2f}B ({work.shape.source})")
    data = work.data
    if data is None:
        most = work.schedule.max_steps
        steps = "" if most is None else f"; max_steps is {most}"
        click.echo(f"data:  not known: {work.why_no_data}{steps} (say it with --tokens)")
        return
    click.echo(f"data:  {data.rows:,} rows, {data.tokens:,} tokens an epoch ({data.how})")


def _few(quotes: list[Quote]) -> list[Quote]:
    """Of each kind of GPU at each backend the best number; of each backend one at least."""
    kinds: dict[tuple[str, str | None], Quote] = {}
    for one in quotes:
        kinds.setdefault((one.priced.backend, one.offer.gpu), one)
    best = list(kinds.values())
    first = {id(one) for one in {one.priced.backend: one for one in reversed(best)}.values()}
    return [one for number, one in enumerate(best) if number < _SHOWN or id(one) in first]


def _table(quotes: list[Quote], now: datetime) -> None:
    from launcher.cli.tables import table

    heading = ("", "BACKEND", "WHERE", "GPU", "MEMORY", "FITS", "TIME", "WHOLE JOB", "AN HOUR")
    rows: list[tuple[str, ...]] = [(*heading, "PRICES")]
    best: set[str] = set()
    for number, one in enumerate(quotes):
        mark = ""
        if one.fits in {"yes", "tight"} and one.priced.backend not in best:
            best.add(one.priced.backend)
            mark = "**" if number == 0 else "*"
        rows.append((mark, *_row(one), _age(one, now)))
    table(rows)
    click.echo("** the first that fits, * the first of its backend; ranges hold in 4 of 5 cases")


def _learned(quotes: list[Quote]) -> None:
    """On which GPUs the estimate was drawn to what your own runs took."""
    from launcher.quotes.words import drawn

    told = {
        f"{one.offer.gpu} x {one.offer.count}: {text}": None
        for one in quotes
        if (text := drawn(one.pace, one.held))
    }
    for line in told:
        click.echo(f"  {line}")


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


def _require(
    quotes: list[Quote], fitting: list[Quote], kept: list[Quote], told: list[Advice]
) -> None:
    """Raise Refused where it fits nowhere, Capped where no limit is kept.

    told  what would make it fit
    """
    from backends.errors import Capped, NoCapacity, Refused
    from launcher.quotes.words import time_words

    if kept:
        return
    if fitting:
        first = fitting[0]
        cost = "" if first.cost is None else f", {first.cost[1]} in all"
        took = "" if first.hours is None else f", {time_words(first.hours)}"
        raise Capped(
            f"nothing that fits keeps to the limits; nearest is {hardware(first.offer)} "
            f"at {first.priced.backend}, {first.offer.price} an hour"
            f"{cost}{took}",
            hint="raise the limit, or change the recipe: --set",
        )
    tried = [one for one in quotes if one.memory is not None]
    if not tried:
        names = ", ".join(sorted({str(one.offer.gpu) for one in quotes}))
        raise NoCapacity(f"of no GPU on offer figures are known: {names}", hint="see --all")
    best = min(tried, key=lambda one: one.memory.nvml.middle - one.memory.usable)  # type: ignore[union-attr]
    held = best.memory
    assert held is not None
    over = held.nvml.middle - held.usable
    raise Refused(
        f"it fits nowhere: on {hardware(best.offer)} it lacks "
        f"{max(over, 0.1):.{0 if over >= 10 else 1}f} GiB on each GPU "
        f"({held.nvml.middle:.0f} of {held.usable:.0f})",
        hint="\n".join(["it would fit with:", *_changes(told, None)])
        if told
        else "no change that is known here is enough: take a smaller model or shorter rows",
    )


def _advise(found: list[Advice], best: Quote) -> None:
    """What would make it cheaper, each to be pasted."""
    if found:
        click.echo("cheaper:")
    for line in _changes(found, best):
        click.echo(f"  {line}")


def _changes(found: list[Advice], best: Quote | None) -> Iterator[str]:
    for one in found:
        offer, cost, held = one.best.offer, one.best.cost, one.best.memory
        dollars = "" if cost is None else f", {cost[1]}"
        if best is not None and best.cost is not None and cost is not None:
            dollars += f" instead of {best.cost[1]}"
        memory = "" if held is None else f" ({held.nvml.middle:.0f} of {held.usable:.0f} GiB)"
        where = f"{hardware(offer)} at {one.best.priced.backend}"
        yield f"{one.change.what}: {where}{memory}{dollars} ({one.change.price})"
        yield "  " + " ".join(f"--set {shlex.quote(each)}" for each in one.change.sets)


def _explain(one: Quote) -> None:
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


def _document(one: Quote, now: datetime) -> dict[str, Any]:
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
