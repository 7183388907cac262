"""What can be asked of Modal, as offers: any GPU there is, queued for where none is free."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from decimal import Decimal

from backends.modal import catalog, clusters
from backends.modal.catalog import Rates
from backends.offer import Money, Need, Offer

NAME = "modal"

MOST_GPUS = 8
DISK_GIB, MOST_DISK_GIB = 512, 3072
"""Of a container's own disk: what it has without asking, and what can be asked for."""
_CPUS, _MEMORY_GIB = 8, 64
_PLAIN_CPUS, _PLAIN_MEMORY_GIB = 4, 16
_ALIASES = {"a100": "A100-40GB", "a10g": "A10", "rtxpro6000": "RTX-PRO-6000"}


@dataclass(frozen=True)
class Wanted:
    """One kind of GPU as it is asked for; `exact` forbids a silent upgrade (`H100!`)."""

    gpu: str
    count: int
    exact: bool

    def words(self) -> str:
        """As Modal takes it."""
        return f"{self.gpu}{'!' if self.exact else ''}:{self.count}"


def offers(rates: Rates, need: Need) -> list[Offer]:
    """What fits, cheapest first. Ranked kinds of GPU are one offer, at the price of the dearest.

    Modal itself takes the first of them that is free, and waits where none is.
    Raises Unsupported for several nodes that are no cluster of Modal's.
    """
    if need.spot or need.regions or (need.disk_gib or 0) > MOST_DISK_GIB:
        return []
    if need.cpu_only:
        if need.nodes > 1:
            clusters.require(need.nodes, [])
        return [_offer(rates, need, [])]
    if need.gpus:
        ranked = [_wanted(kind, count) for kind, count in need.gpus]
        known = [one for one in ranked if one is not None]
        if not known or len(known) != len(ranked):
            return []
        if need.nodes > 1:
            clusters.require(need.nodes, [(one.gpu, one.count) for one in known])
        fits = all(one.count <= MOST_GPUS for one in known)
        return [_offer(rates, need, known)] if fits else []
    found = [_offer(rates, need, [Wanted(kind, count, exact=False)]) for kind, count in _any(need)]
    return sorted(found, key=lambda offer: offer.price.amount)


def _any(need: Need) -> Iterator[tuple[str, int]]:
    """The kinds and counts there are, where none is named."""
    if need.nodes > 1:
        clusters.require(need.nodes, [(clusters.KINDS[0], clusters.WHOLE)])
        yield from ((kind, clusters.WHOLE) for kind in clusters.KINDS)
        return
    for gpu in catalog.GPUS:
        for count in range(1, MOST_GPUS + 1) if need.every_count else (1,):
            yield gpu.name, count


def _wanted(asked: str, count: int) -> Wanted | None:
    exact = asked.endswith("!")
    plain = _plain(asked.rstrip("!"))
    name = _ALIASES.get(plain)
    if name is None:
        name = next((gpu.name for gpu in catalog.GPUS if _plain(gpu.name) == plain), None)
    return None if name is None else Wanted(name, count, exact)


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "", text.lower()).removeprefix("nvidia")


def _offer(rates: Rates, need: Need, ranked: list[Wanted]) -> Offer:
    if ranked:
        cpus, memory = need.cpus or _CPUS, need.memory_gib or _MEMORY_GIB
        alone = replace(need, cpus=None, memory_gib=need.plain_memory_gib, nodes=1)
        plain = _offer(rates, alone, [])
    else:
        cpus, memory = need.cpus or _PLAIN_CPUS, need.memory_gib or _PLAIN_MEMORY_GIB
        plain = None
    dearest = max((rates.gpus[one.gpu] * one.count for one in ranked), default=Decimal(0))
    first = ranked[0] if ranked else None
    memories = {gpu.name: gpu.memory_gib for gpu in catalog.GPUS}
    return Offer(
        backend=NAME,
        gpu=None if first is None else first.gpu,
        count=0 if first is None else first.count,
        price=Money(dearest + rates.cpu * cpus + rates.gib * memory) * need.nodes,
        memory_gib=float(memory),
        gpu_memory_gib=None if first is None else float(memories[first.gpu]),
        cpus=cpus,
        disk_gib=need.disk_gib if (need.disk_gib or 0) > DISK_GIB else None,
        source=rates.source,
        read_at=rates.read_at,
        ends=True,
        plain=plain,
        instead=_instead(ranked),
        nodes=need.nodes,
        data={"gpus": ",".join(one.words() for one in ranked)},
    )


def _instead(ranked: list[Wanted]) -> str:
    """What may come in place of the first kind, at no higher price than the one that is shown."""
    told = []
    if others := [one.words().rstrip("!") for one in ranked[1:]]:
        told.append(f"{' or '.join(others)}, whichever is free first; priced as the dearest")
    # Modal documents this one upgrade: https://modal.com/docs/guide/gpu
    if any(one.gpu == "H100" and not one.exact for one in ranked):
        told.append("an H200 at an H100's price (H100! forbids that)")
    return "; ".join(told)
