"""What becomes of the machine a job ran on, once its results are here and verified."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING

from backends.errors import FtlaunchError
from backends.lease import Keep
from backends.offer import FREE, Money, Need, Offer

if TYPE_CHECKING:
    from backends.protocol import Backend

LINGER = timedelta(minutes=10)
"""A machine that may pause itself does so this long after its job has ended."""


class OnFinish(StrEnum):
    """What the user asks for with `--on-finish`, or with `on_finish` in a recipe."""

    DESTROY = "destroy"
    """Nothing is kept at the provider, and nothing bills any more."""
    PAUSE = "pause"
    """The files stay at the provider; a machine that nobody comes back to pauses itself."""
    KEEP = "keep"
    """The machine goes on, and goes on billing, until somebody stops it."""


@dataclass(frozen=True)
class Ending:
    """How a job is let go of.

    keep    what stays at the provider; None: it is not let go of
    linger  the machine lets go of itself this long after the job's end; None: it does not
    """

    keep: Keep | None
    linger: timedelta | None = None


def bills(offer: Offer) -> bool:
    """Whether holding this costs money."""
    return offer.price.amount > 0


def some_price(backend: Backend) -> Money:
    """A price of what a backend rents, for an hour: nothing where all that it has is free.

    Where its price list is damaged it is taken to bill: what goes on unseen may cost money.
    """
    try:
        offers = backend.offers(Need(), live=False)
    except FtlaunchError:
        return Money(Decimal("0.01"))
    return next((offer.price for offer in offers if bills(offer)), FREE)


def ending(asked: OnFinish | None, offer: Offer) -> Ending:
    """How a job on this offer is let go of.

    Without a wish, what bills is destroyed, and files that cost nothing are kept.
    """
    if asked is None:
        return Ending(Keep.NOTHING if bills(offer) else Keep.FILES)
    if asked is OnFinish.DESTROY:
        return Ending(Keep.NOTHING)
    if asked is OnFinish.PAUSE:
        return Ending(Keep.FILES, LINGER)
    return Ending(None)
