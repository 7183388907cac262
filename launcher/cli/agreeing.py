"""Before money is spent on a further job: what it costs is said, and asked about when it is new."""

from __future__ import annotations

import click

from launcher.on_finish import bills
from launcher.run.placing import Place


def agree(there: Place, *, yes: bool, quiet: bool) -> None:
    """Say what the place costs an hour; ask, unless no more was agreed to before. May abort."""
    offer = there.offer
    if not bills(offer):
        return
    hardware = f"{offer.gpu} x {offer.count}" if offer.gpu else "CPU only"
    if not quiet:
        click.echo(f"  on {there.spec}: {hardware}, {offer.price} an hour", err=True)
    if not (yes or there.agreed):
        click.confirm(f"this costs {offer.price} an hour; go on?", abort=True, err=True)
