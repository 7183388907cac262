"""Which offer a run takes: asked of the provider, or of its dated list where that must do."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal

from backends.errors import (
    BadInput,
    Capped,
    CredentialsMissing,
    NoCapacity,
    Unreachable,
    Unsupported,
)
from backends.offer import Need, Offer
from backends.protocol import Backend

_OTHERS = 3
"""How many other offers an empty hand names."""


@dataclass(frozen=True)
class Choice:
    """The offer, and why its price is not of today, if it is not."""

    offer: Offer
    doubt: str = ""


def choose(backend: Backend, need: Need, *, cap: Decimal | None, dry: bool) -> Choice:
    """The cheapest offer that fits, of the first kind of GPU that can be had.

    cap  dollars an hour, at most
    dry  nothing will be rented: where the provider cannot be asked its dated list will do
    Raises what `Backend.offers` raises, BadInput for a GPU the provider does not know, NoCapacity,
    Capped.
    """
    offers, doubt = _asked(backend, need, dry=dry)
    if not offers:
        raise _nothing(backend, need, dry=dry)
    _require_kept(backend, need, offers[0])
    return Choice(_affordable(offers, cap), doubt)


def _require_kept(backend: Backend, need: Need, offer: Offer) -> None:
    """Raises BadInput where a bucket was named that nothing would be kept in."""
    if not need.store or offer.keeps:
        return
    if need.recover:
        raise BadInput(
            f"{backend.name} keeps checkpoints in a place of its own, not in {need.store}",
            hint="leave --store (hardware.store) out: it is for -b skypilot",
        )
    raise BadInput(
        f"only a job that goes on by itself is kept in a bucket, and {need.store} is named",
        hint="add --recover (or --spot), or leave --store out",
    )


def _asked(backend: Backend, need: Need, *, dry: bool) -> tuple[Sequence[Offer], str]:
    try:
        return backend.offers(need, live=True), ""
    except (CredentialsMissing, Unreachable) as error:
        if not dry:
            raise
        return backend.offers(need, live=False), f"not asked today: {error.message}"


def _affordable(offers: Sequence[Offer], cap: Decimal | None) -> Offer:
    first = offers[0]
    if cap is None or first.price.amount == 0:
        return first
    if first.price.currency != "USD":
        raise Capped(
            f"the limit of {cap} is in dollars, and this account pays in {first.price.currency}",
            hint="leave it out, and limit the time instead: --max-duration",
        )
    if first.price.amount > cap:
        raise Capped(
            f"the cheapest offer is {first.price} an hour, above the limit of {cap}",
            hint="raise --max-price, or ask for other hardware with -g",
        )
    return first


def apart(need: Need) -> list[Need]:
    """One for each kind of GPU: a provider that ranks them itself would hide the second."""
    if need.cpu_only:
        return [need]
    if need.gpus:
        return [replace(need, gpus=(one,)) for one in need.gpus]
    return [replace(need, every_count=True)]


def time_for(cost: Decimal, offer: Offer) -> timedelta:
    """How long an offer can be held for so many dollars. Raises Capped for another currency."""
    if offer.price.currency != "USD":
        raise Capped(
            f"the limit of {cost} is in dollars, and this account pays in {offer.price.currency}",
            hint="limit the time instead: --max-duration",
        )
    hours = min(cost / offer.price.amount, Decimal(24 * 365 * 100))
    return timedelta(hours=float(hours))


def _nothing(backend: Backend, need: Need, *, dry: bool) -> BadInput | NoCapacity | Unsupported:
    """Why there is no offer: a name nobody knows, nothing that size, or nothing free now."""
    wanted = words(need)
    if need.nodes > 1 and not backend.offers(Need(nodes=need.nodes), live=False):
        return Unsupported(
            f"{backend.name} runs a job on one machine, and this recipe asks for "
            f"{need.nodes} nodes (hardware.nodes)",
            hint="several nodes are had with -b skypilot, and whole machines of 8 GPUs with "
            "-b modal; or take one machine with more GPUs: -g H100:8",
        )
    known = [offer.gpu for offer in backend.offers(Need(), live=False) if offer.gpu]
    for kind, _ in need.gpus:
        if kind.lower() in {name.lower() for name in known}:
            continue  # there is one, in other numbers
        if known and not backend.offers(Need(gpus=((kind, 1),)), live=False):
            return _unknown(backend, kind, list(dict.fromkeys(known)))
    rented = backend.offers(need, live=False)
    if not rented and (fewer := _most(backend, need)):
        return BadInput(
            f"{backend.name} rents no {wanted}: at most {' or '.join(map(_kind, fewer))}",
            hint=f"ask for that many: -g {','.join(f'{kind}:{count}' for kind, count in fewer)}",
        )
    if not rented:
        return NoCapacity(
            f"{backend.name} has no {wanted}", hint=_next_best(backend, need, dry=dry)
        )
    regions = ", ".join(dict.fromkeys(offer.region for offer in rented if offer.region))
    where = f" in {regions}" if regions else ""
    return NoCapacity(
        f"{backend.name} has no {wanted} free now{where}", hint=_next_best(backend, need, dry=dry)
    )


def _most(backend: Backend, need: Need) -> list[tuple[str, int]]:
    """As many of the kinds that were asked for as one machine has, where fewer would be had."""
    return [
        (kind, most)
        for kind, count in need.gpus
        if (most := next((n for n in range(count - 1, 0, -1) if _has(backend, need, kind, n)), 0))
    ]


def _has(backend: Backend, need: Need, kind: str, count: int) -> bool:
    return bool(backend.offers(replace(need, gpus=((kind, count),)), live=False))


def _kind(asked: tuple[str, int]) -> str:
    kind, count = asked
    return kind if count == 1 else f"{kind} x {count}"


def words(need: Need) -> str:
    """The hardware that was asked for, in a few words."""
    kinds = " or ".join(map(_kind, need.gpus))
    if need.cpu_only:
        kinds = "machine without a GPU"
    asked = [
        *(["spot"] if need.spot else []),
        kinds or "GPU",
        *([f"with {need.cpus} CPUs"] if need.cpus else []),
        *([f"with {need.memory_gib} GiB of memory"] if need.memory_gib else []),
        *([f"in {' or '.join(need.regions)}"] if need.regions else []),
        *([f"on {need.nodes} machines"] if need.nodes > 1 else []),
        *(["that takes a job up again by itself"] if need.recover else []),
    ]
    return " ".join(asked)


def _unknown(backend: Backend, kind: str, known: Sequence[str]) -> BadInput:
    plain = {name.lower(): name for name in known}
    close = difflib.get_close_matches(kind.lower(), list(plain), n=1)
    meant = f"did you mean {plain[close[0]]}? " if close else ""
    return BadInput(
        f"{backend.name} has no GPU named {kind!r}", hint=f"{meant}it has: {', '.join(known)}"
    )


def _next_best(backend: Backend, need: Need, *, dry: bool) -> str:
    """What could be had instead, nearest in price first, and how to ask for it."""
    if need.recover:
        return (
            "give --store s3://BUCKET/PREFIX with -b skypilot, or use -b modal or "
            "-b skypilot:slurm/NAME, or leave --recover out"
        )
    try:
        rented = backend.offers(need, live=False)
        free = backend.offers(Need(), live=not dry)
    except (CredentialsMissing, Unreachable):
        return "ask again later"
    others = [offer for offer in free if offer.gpu]
    if not others:
        return "see what there is with: ftlaunch check"
    if rented:
        about = rented[0].price.amount
        others.sort(key=lambda offer: abs(offer.price.amount - about))
    kinds = {offer.gpu: offer for offer in reversed(others)}
    named = ", ".join(
        f"{offer.gpu} at {offer.price} an hour{f' in {offer.region}' if offer.region else ''}"
        for offer in list(reversed(kinds.values()))[:_OTHERS]
    )
    return f"free now: {named}; take one with -g, or ask again later"
