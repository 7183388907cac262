"""What is said of the bill after a job's end, when nobody may be there: of all places at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from launcher.on_finish import OnFinish, bills, ending

if TYPE_CHECKING:
    from backends.offer import Offer
    from launcher.planning import Prepared


def alone(prepared: Prepared) -> None:
    """What becomes of each place by itself, as its provider has it; see `Offer.alone`."""
    said = [f"{_on(prepared, spec)}{one.alone}" for spec, one in _places(prepared) if one.alone]
    for text in dict.fromkeys(said):
        click.echo(f"  when its job is over and this computer is off, {text}")


def warn(prepared: Prepared) -> None:
    """Nobody may be there when the job ends: say what ends the bill then, and what does not.

    With several places: of the one that would bill longest.
    """
    asked = prepared.run.on_finish
    spec, offer = max(_places(prepared), key=lambda place: _longest(place[1], asked))
    on = _on(prepared, spec)
    match _longest(offer, asked):
        case 1:
            click.echo(
                f"  {on}it bills while it works, also when this computer is off, and no longer"
            )
        case 3:
            click.echo(
                f"  when the job is over and this computer is off, {on}the machine pauses itself"
            )
        case 4:
            click.echo(
                f"  {on}it is let go of by this computer, or another with: ftlaunch ps --adopt; "
                "while both are off it goes on billing, unless you launch with --on-finish pause",
                err=True,
            )


def _longest(offer: Offer, asked: OnFinish | None) -> int:
    """The more, the longer it may bill when its job is over and nobody is there."""
    if offer.here or not bills(offer):
        return 0
    if offer.ends:
        return 1
    if offer.alone:
        return 2  # the plan has said so
    return 4 if ending(asked, offer).linger is None else 3


def _places(prepared: Prepared) -> list[tuple[str, Offer]]:
    """All that the run may come to run on, the first first."""
    others = [(one.backend, one.offer) for one in prepared.run.elsewhere]
    return [(prepared.backend_spec, prepared.offer), *others]


def _on(prepared: Prepared, spec: str) -> str:
    return f"on {spec} " if prepared.run.elsewhere else ""
