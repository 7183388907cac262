"""Counting a recipe's tokens before it is estimated: a step of its own, done once, and said."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from launcher.recipe import Recipe

option = click.option(
    "--count/--no-count",
    "count",
    default=True,
    help="Count the tokens of local data first, once; else their bytes are taken.",
)


def first(recipe: Recipe) -> None:
    """Count what can be counted and was not yet; quick where there is nothing to do."""
    from launcher.quotes import counting

    wanted = counting.of(recipe)
    if isinstance(wanted, str) or wanted.known() is not None:
        return
    click.echo(
        "counting the data's tokens with the recipe's tokenizer and template: up to a minute, "
        "once (--no-count: estimate from bytes)",
        err=True,
    )
    began = time.monotonic()
    found = wanted.count()
    took = f"{time.monotonic() - began:.0f} s"
    if isinstance(found, str):
        click.echo(f"  after {took}: {found}", err=True)
        return
    rows = sum(each.rows for each in found)
    click.echo(f"  {rows:,} rows in {took}; kept for the next time", err=True)
