"""`-b auto`: every offer that a recipe could go to, the best first, and why not to others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NoReturn

from backends import registry
from backends.errors import (
    Capped,
    CredentialsMissing,
    FtlaunchError,
    NoCapacity,
    Refused,
    Unreachable,
)
from backends.offer import Need
from backends.protocol import Backend
from launcher import choosing, places
from launcher.quotes import nothing, quote, workload
from launcher.quotes.learning import NOTHING, Learned
from launcher.quotes.market import Market, Priced
from launcher.quotes.quote import Caps, Quote
from launcher.quotes.workload import Workload
from launcher.recipe import Recipe

MOST = 8
"""So many places are tried, and one of each backend besides."""


@dataclass(frozen=True)
class Candidate:
    """A place that the run may go to.

    rank   of the kind of GPU among those asked for
    doubt  why its price is not of today; empty: it is
    """

    backend: Backend
    quote: Quote
    rank: int = 0
    doubt: str = ""

    @property
    def spec(self) -> str:
        """What `-b` takes it with."""
        return self.quote.priced.backend


@dataclass(frozen=True)
class Order:
    """Where the run goes, the first first; and what was passed over, in a sentence each."""

    candidates: tuple[Candidate, ...]
    left_out: tuple[str, ...]


def order(
    recipe: Recipe,
    need: Need,
    caps: Caps,
    *,
    dry: bool,
    upload_bytes: int = 0,
    hub: bool = True,
    only: str | None = None,
    learned: Learned = NOTHING,
) -> Order:
    """Every place that fits and keeps the caps, over all backends that can be asked.

    Of ranked kinds of GPU all places of the first come before those of the second; then what
    surely fits, then the cheapest whole job. A place is a kind of GPU at a backend and region, in
    the number that is cheapest.
    dry   nothing will be rented: dated price lists stand in for what cannot be asked
    only  the one backend that is possible, whose kept secrets the job needs
    learned  from earlier runs
    Raises CredentialsMissing, Refused, Capped or NoCapacity where there is none, BadInput for a
    GPU that nobody knows and a model of no known shape, Refused for a way of training that cannot
    be estimated.
    """
    named = bool(need.gpus) or need.cpu_only
    work = None if need.cpu_only else workload.of(recipe)
    market = _Market(dry=dry, left_out=[])
    if only is not None:
        market.left_out.append(f"only {only} keeps the secrets that are asked for")
    found = [
        one
        for name in registry.names()
        if only in {None, name}
        for one in market.ask(name, choosing.apart(need))
    ]
    nothing.require_known(None, need, Market([one.priced for one in found]))
    if not found:
        market.refuse()
    priced = _quoted(work, found, learned, upload_bytes=upload_bytes, hub=hub)
    fitting = _fitting(priced, market.left_out, named=named)
    if not fitting:
        _fits_nowhere(priced)
    kept = _within(fitting, caps, market.left_out)
    if not kept:
        _capped(min(fitting, key=_key))
    return Order(tuple(_few(sorted(kept, key=_key))), tuple(dict.fromkeys(market.left_out)))


@dataclass(frozen=True)
class _Asked:
    """An offer as it came, not yet quoted."""

    backend: Backend
    priced: Priced
    rank: int
    doubt: str


@dataclass
class _Market:
    """The backends, asked one after the other. `mute` are those that nobody has set up."""

    dry: bool
    left_out: list[str]
    mute: int = 0

    def ask(self, name: str, needs: Sequence[Need]) -> Iterator[_Asked]:
        """A backend's offers."""
        try:
            backend = registry.load(name, state_dir=places.backends_dir())
            doubt, live = "", True
            found = False
            for rank, need in enumerate(needs):
                try:
                    offers = backend.offers(need, live=live)
                except (CredentialsMissing, Unreachable) as error:
                    if not self.dry:
                        raise
                    doubt, live = f"not asked today: {error.message}", False
                    offers = backend.offers(need, live=False)
                for offer in offers:
                    found = True
                    yield _Asked(backend, Priced(name, offer), rank, doubt)
        except (CredentialsMissing, Unreachable) as error:
            self.mute += 1
            self.left_out.append(f"{name}: {error.message}")
        except FtlaunchError as error:
            self.left_out.append(f"{name}: {error.message}")
        else:
            if not found:
                wanted = choosing.words(needs[0])
                self.left_out.append(f"{name} has no {wanted} now")

    def refuse(self) -> NoReturn:
        """Say why there is nothing at all."""
        why = "; ".join(self.left_out)
        if self.mute:
            raise CredentialsMissing(
                f"no backend has an offer: {why}", hint="see what each needs with: ftlaunch check"
            )
        raise NoCapacity(f"no backend has an offer: {why}", hint="ask again later")


def _quoted(
    work: Workload | None,
    asked: Sequence[_Asked],
    learned: Learned,
    *,
    upload_bytes: int,
    hub: bool,
) -> list[Candidate]:
    if work is None:
        quotes = [Quote(one.priced, "unknown", None, {}, None, None) for one in asked]
    else:
        offers = [one.priced for one in asked]
        sent = upload_bytes
        quotes = quote.all_of(work, offers, upload_bytes=sent, hub=hub, learned=learned)
    return [
        Candidate(one.backend, quoted, one.rank, one.doubt)
        for one, quoted in zip(asked, quotes, strict=True)
    ]


def _fitting(found: Sequence[Candidate], left_out: list[str], *, named: bool) -> list[Candidate]:
    """Those in whose memory it fits; of a GPU without figures only where it was asked for."""
    kept = [
        one for one in found if one.quote.fits in {"yes", "tight", *(["unknown"] if named else [])}
    ]
    for spec in dict.fromkeys(one.spec for one in found):
        mine = [one for one in found if one.spec == spec and one not in kept]
        none = [one for one in mine if one.quote.offer.gpu is None]
        small = dict.fromkeys(str(one.quote.offer.gpu) for one in mine if one.quote.fits == "no")
        odd = dict.fromkeys(
            str(one.quote.offer.gpu)
            for one in mine
            if one.quote.fits == "unknown" and one not in none
        )
        if none:
            left_out.append(f"{spec}: there is no GPU")
        if small:
            left_out.append(f"{spec}: it does not fit {', '.join(small)}")
        if odd:
            left_out.append(f"{spec}: nothing is known of {', '.join(odd)}; ask for one with -g")
    return kept


def _within(found: Sequence[Candidate], caps: Caps, left_out: list[str]) -> list[Candidate]:
    kept = []
    why: dict[str, list[str]] = {}
    for one in found:
        reason = quote.above(one.quote, caps)
        if not reason:
            kept.append(one)
        else:
            why.setdefault(f"{one.spec}: above {reason}", []).append(_kind(one))
    left_out += [f"{text}: {', '.join(dict.fromkeys(kinds))}" for text, kinds in why.items()]
    return kept


def _key(one: Candidate) -> tuple[int, int, int, float]:
    fits = {"yes": 0, "tight": 1, "unknown": 2, "no": 3}[one.quote.fits]
    # Where nobody knows how long it takes: by the hour, after the others.
    return one.rank, fits, int(one.quote.cost is None), one.quote.likely


def _few(ordered: Sequence[Candidate]) -> list[Candidate]:
    """The best number of each kind of GPU at each place: the first of them, and of each backend."""
    best: dict[tuple[object, ...], Candidate] = {}
    for one in ordered:
        offer = one.quote.offer
        best.setdefault((one.spec, offer.gpu, offer.region, offer.spot), one)
    places_ = list(best.values())
    firsts = {id(one) for one in {one.spec: one for one in reversed(places_)}.values()}
    return [one for number, one in enumerate(places_) if number < MOST or id(one) in firsts]


def _kind(one: Candidate) -> str:
    offer = one.quote.offer
    if offer.gpu is None:
        return "a machine without a GPU"
    return offer.gpu if offer.count == 1 else f"{offer.gpu} x {offer.count}"


def _fits_nowhere(found: Sequence[Candidate]) -> NoReturn:
    held = [one for one in found if one.quote.memory is not None]
    if not held:
        raise Refused(
            "there is no offer that could be estimated, of any backend that could be asked",
            hint="ftlaunch check says what each backend still needs; a GPU is named with -g GPU",
        )
    best = min(held, key=_lacks)
    raise Refused(
        f"it fits nowhere: on {_kind(best)} at {best.spec} it lacks {_lacks(best):.0f} GiB",
        hint="what would make it fit is told by: ftlaunch estimate RECIPE",
    )


def _lacks(one: Candidate) -> float:
    memory = one.quote.memory
    return float("inf") if memory is None else memory.nvml.middle - memory.usable


def _capped(nearest: Candidate) -> NoReturn:
    offer, cost, hours = nearest.quote.offer, nearest.quote.cost, nearest.quote.hours
    whole = "" if cost is None else f", {cost[1]} in all"
    took = "" if hours is None else f", {hours.middle:.1f} h"
    raise Capped(
        f"nothing that fits keeps to the limits; nearest is {_kind(nearest)} at {nearest.spec}, "
        f"{offer.price} an hour{whole}{took}",
        hint="raise --max-price, --max-cost or --max-duration",
    )
