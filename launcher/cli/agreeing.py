"""Questions to the user: before money is spent, and before something is gone for good."""

from __future__ import annotations

import sys

import click

from backends.errors import BadInput
from backends.offer import Offer
from launcher.on_finish import bills
from launcher.plan_text import hardware
from launcher.run.placing import Place


def agree(
    there: Place, offer: Offer | None = None, *, yes: bool, quiet: bool, plain: str = ""
) -> None:
    """Say what the place costs an hour; ask, unless no more was agreed to before.

    offer  what this very job runs on there, where that is not what the run is on
    plain  what else will be done there without a GPU, if that is rented by itself
    Raises what `confirm` raises.
    """
    offer = offer or there.offer
    if not bills(offer):
        return
    if not quiet:
        click.echo(f"  on {there.spec}: {hardware(offer)}, {offer.price} an hour", err=True)
        if plain and offer.plain is not None:
            click.echo(f"  {plain} without a GPU, {offer.plain.price} an hour", err=True)
    if not (yes or there.agreed):
        confirm(f"this costs {offer.price} an hour; go on?")


def confirm(question: str) -> None:
    """Ask; a no raises click's Abort. Raises BadInput where nobody is there to answer."""
    try:
        agreed = click.confirm(question, err=True)
    except click.Abort:
        if sys.stdin.isatty():
            raise  # Ctrl-C, or Ctrl-D
        click.echo("", err=True)
        raise BadInput(
            "nobody is here to answer that; nothing was done", hint="agree with: -y"
        ) from None
    if not agreed:
        raise click.Abort
