"""The price lists that stand in where nobody is asked: their source, their day, their rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from backends import registry
from backends.errors import FtlaunchError
from backends.offer import Need, Offer
from backends.protocol import Backend
from launcher import places
from launcher.quotes.market import STALE

_ANY = Need(every_count=True)


@dataclass(frozen=True)
class PriceList:
    """The rows of one source and one day; None: nobody knows of which."""

    backend: str
    source: str
    read_at: datetime | None
    rows: tuple[Offer, ...]

    def is_stale(self, now: datetime) -> bool:
        """Whether it is of another month, or of nobody knows when."""
        return self.read_at is None or now - self.read_at > STALE


@dataclass(frozen=True)
class Lists:
    """What there is, and what cannot be read or be asked, with its way out."""

    lists: tuple[PriceList, ...]
    trouble: tuple[FtlaunchError, ...] = ()


def lists_of(name: str) -> tuple[PriceList, ...]:
    """A backend's lists, all rows: on demand, spot, and without a GPU. Empty: it has no prices.

    Raises BadInput for a name that nobody has, Refused for a list that is damaged.
    """
    backend = registry.load(name, state_dir=places.backends_dir())
    found: dict[tuple[str, datetime | None], list[Offer]] = {}
    for need in (_ANY, replace(_ANY, spot=True), Need(cpu_only=True)):
        for offer in backend.offers(need, live=False):
            if not offer.here:
                found.setdefault((offer.source, offer.read_at), []).append(offer)
    return tuple(PriceList(name, *key, tuple(rows)) for key, rows in found.items())


def all_lists(names: Sequence[str]) -> Lists:
    """The lists of several backends; of one that is damaged only that is told."""
    lists: list[PriceList] = []
    trouble: list[FtlaunchError] = []
    for name in names:
        try:
            lists += lists_of(name)
        except FtlaunchError as error:
            trouble.append(error)
    return Lists(tuple(lists), tuple(trouble))


def update(name: str) -> bool:
    """Ask a backend anew; whether the list that stands in for it is a younger one now.

    A provider that is asked keeps what it was told. SkyPilot's lists are SkyPilot's own to fetch.
    Raises what `Backend.offers` raises when live.
    """
    backend = registry.load(name, state_dir=places.backends_dir())
    before = _day(backend)
    backend.offers(Need(), live=True)
    after = _day(backend)
    return after is not None and (before is None or after > before)


def _day(backend: Backend) -> datetime | None:
    try:
        offers = backend.offers(Need(), live=False)
    except FtlaunchError:
        return None  # damaged: what is asked now takes its place
    days = [offer.read_at for offer in offers if offer.read_at is not None]
    return max(days, default=None)
