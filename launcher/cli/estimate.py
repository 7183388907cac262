"""`ftlaunch estimate`: every offer, whether the recipe fits, how long, how many dollars."""

from __future__ import annotations

import gc
import json
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import click

from launcher.cli import counting, model_shape, options, quotes_view
from launcher.plan_text import hardware

if TYPE_CHECKING:
    from backends.offer import Need
    from launcher.quotes.advice import Advice
    from launcher.quotes.quote import Caps, Quote
    from launcher.recipe.model import Budget


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
    hardware = found.launch.hardware
    need = Need(
        gpus=gpus,
        spot=spot or hardware.spot,
        regions=regions or hardware.regions,
        every_count=not gpus,
        nodes=hardware.nodes,
    )
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
    caps = _limits(found.launch.budget, quote.Caps(max_price, max_cost, max_duration))
    kept = [one for one in fitting if not quote.above(one, caps)]
    shown = quotes if everything else kept
    if as_json:
        rows = [quotes_view.document(one, market.now()) for one in shown]
        click.echo(
            json.dumps(
                {**quotes_view.facts(work), "quotes": rows, "silent": there.silent}, indent=2
            )
        )
        _require(quotes, fitting, kept, [])
        return 0
    quotes_view.heading(work)
    _narrowed(need, caps, spot, regions, max_price, max_cost, max_duration)
    rows_shown = shown if everything else quotes_view.few(shown)
    if rows_shown:
        quotes_view.table(rows_shown, market.now())
        quotes_view.learned(rows_shown)
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
        quotes_view.advise(told, fitting[0])
    for sentence in there.silent:
        click.echo(f"  {sentence}", err=True)
    if explain and (shown or quotes):
        quotes_view.explain((shown or quotes)[0])
    _require(quotes, fitting, kept, told)
    return 0


def _limits(budget: Budget, given: Caps) -> Caps:
    """Those of the options, and the recipe's own where none is given."""
    from launcher.quotes.quote import Caps

    return Caps(
        given.price or budget.max_price,
        given.cost or budget.max_cost,
        given.duration or budget.max_duration,
    )


def _narrowed(need: Need, caps: Caps, *given: object) -> None:
    """Tell what the recipe itself narrows the offers by, where no option says otherwise."""
    asks = (
        ("spot capacity", need.spot),
        (f"regions: {', '.join(need.regions)}", need.regions),
        (f"max_price: {caps.price}", caps.price),
        (f"max_cost: {caps.cost}", caps.cost),
        (f"max_duration: {caps.duration}", caps.duration),
    )
    told = [
        words for (words, asked), option in zip(asks, given, strict=True) if asked and not option
    ]
    if told:
        click.echo(f"the recipe asks for {'; '.join(told)}")


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
        hint="\n".join(["it would fit with:", *quotes_view.changes(told, None)])
        if told
        else "no change that is known here is enough: take a smaller model or shorter rows",
    )
