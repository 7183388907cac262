"""Everything that can be rented, over all backends: priced, dated, and marked when that is old."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from backends import registry
from backends.errors import BadInput, CredentialsMissing, FtlaunchError, Unreachable
from backends.offer import Need, Offer
from backends.protocol import Backend
from launcher import places

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
    Raises BadInput for a name that nobody registered.
    """
    market = Market()
    for name in names or registry.names():
        try:
            backend = registry.load(name, state_dir=places.backends_dir())
            found = [offer for one in _each(need) for offer in _offers(backend, one, live=live)]
        except FtlaunchError as error:
            if names is not None and isinstance(error, BadInput):
                raise
            way_out = f" ({error.hint})" if error.hint else ""
            market.silent.append(f"{name}: {error.message}{way_out}")
            continue
        if not found:
            market.silent.append(f"{name} has nothing like that")
        market.offers.extend(Priced(name, offer) for offer in found)
    return market


def _each(need: Need) -> Iterator[Need]:
    """Each kind that was asked for by itself: a ranked list is one offer to some backends."""
    if len(need.gpus) < 2:
        yield need
    for kind in need.gpus if len(need.gpus) > 1 else ():
        yield replace(need, gpus=(kind,))


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
