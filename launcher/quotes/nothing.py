"""Why there is no offer: a GPU or a region nobody has, or just not together."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import replace

from backends.errors import BadInput, FtlaunchError, NoCapacity
from backends.offer import Need
from launcher import gpus
from launcher.choosing import words
from launcher.quotes import market
from launcher.quotes.market import Market, Priced


def require_known(names: Sequence[str] | None, need: Need, found: Market) -> None:
    """Raise BadInput for a kind of GPU or a region that nobody offers, with names near to it.

    names  of the backends that were asked; None: all
    """
    for kind, _ in need.gpus:
        if kind.lower() == "cpu":
            raise BadInput("an estimate is of GPUs, and cpu asks for none", hint="leave -g out")
        if not _offered(found.offers, kind):
            _require_kind(kind, names)
    regions = {one.offer.region.lower() for one in found.offers if one.offer.region}
    for region in need.regions:
        if region.lower() not in regions:
            _require_region(region, names)


def why(names: Sequence[str] | None, need: Need, found: Market) -> FtlaunchError:
    """The error for an empty list: everything that was asked for is known by itself."""
    where = f"{' or '.join(names)} has no" if names else "no backend has a"
    without = [
        (replace(need, spot=False), "--spot"),
        (replace(need, regions=()), "--region"),
        (replace(need, gpus=(), every_count=True), "-g"),
    ]
    for less, option in without:
        if less != need and market.of(names, less).offers:
            return NoCapacity(f"{where} {words(need)}", hint=f"there are offers without {option}")
    said = "; ".join(found.silent) or "nothing is listed"
    return NoCapacity(f"{where} {words(need)}", hint=said)


def _offered(offers: Sequence[Priced], kind: str) -> bool:
    """Whether one is of this kind, in the provider's spelling or ours."""
    plain = _plain(kind)
    return any(one.offer.gpu is not None and _plain(one.offer.gpu) == plain for one in offers)


def _plain(kind: str) -> str:
    try:
        return gpus.find(kind).name
    except BadInput:
        return kind.lower()


def _require_kind(kind: str, names: Sequence[str] | None) -> None:
    """Raises BadInput unless the kind is a real one, only not offered in that number or place."""
    every = {one.offer.gpu for one in _all(names) if one.offer.gpu}
    try:
        gpus.find(kind)
    except BadInput:
        known = {name.lower(): name for name in sorted(every | {k.name for k in gpus.kinds()})}
        if kind.lower() in known:
            return
        near = difflib.get_close_matches(kind.lower(), list(known), n=4, cutoff=0.4)
        close = ", ".join(known[each] for each in near) or ", ".join(sorted(every))
        raise BadInput(f"there is no GPU named {kind!r}", hint=f"nearest names: {close}") from None


def _require_region(region: str, names: Sequence[str] | None) -> None:
    known = {one.offer.region.lower(): one.offer.region for one in _all(names)}
    known.pop("", None)
    if region.lower() in known:
        return
    near = difflib.get_close_matches(region.lower(), list(known), n=4, cutoff=0.4)
    some = [known[each] for each in near] or sorted(known.values())[:8]
    hint = f"nearest names: {', '.join(some)}" if some else "none of them has regions to choose"
    where = f"{' or '.join(names)} has no" if names else "no backend has a"
    raise BadInput(f"{where} region {region!r}", hint=hint)


def _all(names: Sequence[str] | None) -> list[Priced]:
    return market.of(names, Need(every_count=True)).offers
