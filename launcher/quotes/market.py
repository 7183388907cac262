"""Everything that can be rented, over all backends: priced, dated, and marked when that is old."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from backends import registry
from backends.errors import BadInput, CredentialsMissing, FtlaunchError, Unreachable
from backends.offer import Need, Offer
from backends.protocol import Backend
from launcher import places
from launcher.estimate import gpus

STALE = timedelta(days=30)
"""A price list older than this is marked."""


@dataclass(frozen=True)
class Priced:
    """An offer, and what `-b` takes it with."""

    backend: str
    offer: Offer

    def is_stale(self, now: datetime) -> bool:
        """Whether its price is of another month, or of nobody knows when."""
        read = self.offer.read_at
        return read is None or now - read > STALE


@dataclass(frozen=True)
class Market:
    """What was found, and what could not be asked, in a sentence each."""

    offers: list[Priced] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)


def of(names: Sequence[str] | None, need: Need, *, live: bool = False) -> Market:
    """The offers of some backends, or of all.

    live  ask those that can be asked; a dated list takes the place of one that does not answer
    """
    market = Market()
    for name in names or registry.names():
        try:
            backend = registry.load(name, state_dir=places.backends_dir())
            found = _offers(backend, need, live=live)
        except FtlaunchError as error:
            way_out = f" ({error.hint})" if error.hint else ""
            market.silent.append(f"{name}: {error.message}{way_out}")
            continue
        if not found:
            market.silent.append(f"{name} has nothing like that")
        market.offers.extend(Priced(name, offer) for offer in found)
    return market


def require_known(need: Need, names: Sequence[str]) -> None:
    """Raises BadInput, with the nearest names, for a GPU that nobody rents and no table has."""
    for kind, _ in need.gpus:
        try:
            gpus.find(kind.rstrip("!"))
        except BadInput:
            if not any(_rents(name, kind) for name in names):
                raise


def _rents(name: str, kind: str) -> bool:
    """Whether a backend has such a GPU by its dated list; one that cannot say may have it."""
    try:
        backend = registry.load(name, state_dir=places.backends_dir())
        return bool(backend.offers(Need(gpus=((kind, 1),)), live=False))
    except FtlaunchError:
        return True


def _offers(backend: Backend, need: Need, *, live: bool) -> Sequence[Offer]:
    if live:
        try:
            return backend.offers(need, live=True)
        except (CredentialsMissing, Unreachable):
            pass
    return backend.offers(need, live=False)


def now() -> datetime:
    """The time that ages are told by."""
    return datetime.now(UTC)
