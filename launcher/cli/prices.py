"""`ftlaunch prices`: the price lists kept here, how old they are, and asking for them anew."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from launcher.cli import options

if TYPE_CHECKING:
    from launcher.quotes.pricelists import PriceList


@click.group(invoke_without_command=True)
@options.backend
@click.option("--all", "everything", is_flag=True, help="Every row.")
@options.as_json
@click.pass_context
def prices(ctx: click.Context, backend: str | None, everything: bool, as_json: bool) -> int:
    """Show the price lists that are used where no provider is asked: source, day, age."""
    if ctx.invoked_subcommand is not None:
        return 0
    from launcher.cli.looking import chosen
    from launcher.quotes import market, pricelists

    names = chosen(backend)
    if backend is not None:
        pricelists.lists_of(backend)  # a damaged one is the whole answer
    found = pricelists.all_lists(names)
    now = market.now()
    if as_json:
        trouble = [error.message for error in found.trouble]
        rows = [_document(one, now) for one in found.lists]
        click.echo(json.dumps({"lists": rows, "trouble": trouble}, indent=2))
    else:
        _show(found.lists, now, everything=everything)
    for error in found.trouble:
        click.echo(f"{error.message}\n  {error.hint}", err=True)
    return max((error.exit_code for error in found.trouble), default=0)


@prices.command()
@options.backend
def update(backend: str | None) -> int:
    """Ask every provider that can be reached for today's prices, and keep them."""
    from backends.errors import FtlaunchError
    from launcher.cli.looking import chosen
    from launcher.quotes import pricelists

    asked = 0
    for name in chosen(backend):
        try:
            if backend is None and not pricelists.lists_of(name):
                continue  # this machine has no prices
        except FtlaunchError:
            pass  # a damaged list is asked for anew
        try:
            younger = pricelists.update(name)
        except FtlaunchError as error:
            if backend is not None:
                raise
            click.echo(f"{name}: not asked: {error.message}", err=True)
            continue
        asked += younger
        if younger:
            click.echo(f"{name}: asked now")
        else:
            for one in pricelists.lists_of(name):
                click.echo(f"{name}: not kept by ftlaunch, {_day(one)} ({one.source})")
    if not asked and backend is None:
        click.echo("no list is younger now; see what each backend needs: ftlaunch check", err=True)
    return 0


def _day(one: PriceList) -> str:
    return "of an unknown day" if one.read_at is None else f"of {one.read_at:%Y-%m-%d}"


def _show(lists: tuple[PriceList, ...], now: datetime, *, everything: bool) -> None:
    from launcher.cli.tables import table

    if not lists:
        click.echo("there is no price list")
        return
    rows: list[tuple[str, ...]] = [("BACKEND", "SOURCE", "DAY", "AGE", "ROWS", "")]
    for one in lists:
        old = "old" if one.is_stale(now) else ""
        day = "unknown" if one.read_at is None else f"{one.read_at:%Y-%m-%d}"
        age = "" if one.read_at is None else f"{(now - one.read_at).days} d"
        rows.append((one.backend, one.source, day, age, str(len(one.rows)), old))
    table(rows)
    if everything:
        click.echo("")
        _rows(lists)
    if any(one.is_stale(now) for one in lists):
        click.echo("old: of more than 30 days ago, or an unknown day; ftlaunch prices update")


def _rows(lists: tuple[PriceList, ...]) -> None:
    from launcher.cli.tables import table
    from launcher.plan_text import hardware
    from launcher.quotes.words import hourly

    rows: list[tuple[str, ...]] = [("BACKEND", "WHERE", "WHAT", "AN HOUR", "DAY", "SOURCE")]
    for one in lists:
        day = "unknown" if one.read_at is None else f"{one.read_at:%Y-%m-%d}"
        for offer in one.rows:
            spot = ", spot" if offer.spot else ""
            what = f"{hardware(offer)}{spot}"
            rows.append((one.backend, offer.region or "-", what, hourly(offer), day, one.source))
    table(rows)


def _document(one: PriceList, now: datetime) -> dict[str, Any]:
    return {
        "backend": one.backend,
        "source": one.source,
        "read_at": None if one.read_at is None else one.read_at.isoformat(),
        "stale": one.is_stale(now),
        "rows": [
            {
                "gpu": offer.gpu,
                "count": offer.count,
                "region": offer.region,
                "spot": offer.spot,
                "cpus": offer.cpus,
                "memory_gib": offer.memory_gib,
                "price_per_hour": str(offer.price.amount),
                "currency": offer.price.currency,
                "usd_per_hour": None if offer.usd is None else str(offer.usd.amount),
                "source": offer.source,
                "read_at": None if offer.read_at is None else offer.read_at.isoformat(),
            }
            for offer in one.rows
        ],
    }
