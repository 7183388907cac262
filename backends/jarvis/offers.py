"""What could be rented, from the live catalogue or from the dated one, as offers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from backends.errors import BadInput
from backends.jarvis import catalog
from backends.jarvis.api import Gpu
from backends.offer import Money, Need, Offer

NAME = "jarvis"
CONTAINER, VM, CPU = "container", "vm", "cpu"

CONTAINER_DISK_GIB, VM_DISK_GIB = 100, 100
"""What is asked for when nobody says more; a virtual machine may not have less."""

_EUROPE_GPUS, _MOST_GPUS = 1, 8


@dataclass(frozen=True)
class Market:
    """What there is to rent.

    gpus, plans  lines of the catalogue: see `api.Account.catalogue`
    live         its free counts are of now: what has none is not offered
    """

    gpus: Iterable[Gpu]
    plans: Iterable[Mapping[str, Any]]
    currency: str
    source: str
    read_at: datetime
    live: bool


def dated() -> Market:
    """The catalogue that comes with ftlaunch."""
    return Market(
        catalog.GPUS, catalog.CPU_PLANS, "USD", catalog.SOURCE, catalog.READ_AT, live=False
    )


KEPT = "Jarvis Labs, as last asked from here"


def to_json(
    gpus: Iterable[Gpu], plans: Iterable[Mapping[str, Any]], currency: str
) -> dict[str, Any]:
    """A live catalogue, to be kept."""
    return {
        "currency": currency,
        "gpus": [asdict(gpu) for gpu in gpus],
        "plans": [dict(plan) for plan in plans],
    }


def from_json(raw: Mapping[str, Any], read_at: datetime) -> Market:
    """The reverse; what was free then says nothing of now. Raises what odd rows raise."""
    gpus = [Gpu(**row) for row in raw["gpus"]]
    for gpu in gpus:
        for price in (gpu.price, gpu.spot_price):
            if price is not None and not float(price) >= 0:
                raise ValueError(price)
    plans = [dict(plan) for plan in raw["plans"]]
    return Market(gpus, plans, str(raw["currency"]), KEPT, read_at, live=False)


def offers(market: Market, need: Need, *, kind: str) -> list[Offer]:
    """What fits, cheapest first; of ranked kinds of GPU, those of the first that can be had.

    kind  `container` or `vm`: the sort of machine for a job that wants a GPU
    """
    if need.nodes > 1 or need.recover:
        return []
    if need.cpu_only:
        found = _cpu_machines(market, need)
    elif need.gpus:
        found = next(
            (fit for gpu, count in need.gpus if (fit := _gpus(market, need, kind, gpu, count))), []
        )
    else:
        counts = range(1, _MOST_GPUS + 1) if need.every_count else (1,)
        found = [one for count in counts for one in _gpus(market, need, kind, None, count)]
    return sorted(found, key=lambda offer: (offer.price.amount, offer.region))


def _gpus(market: Market, need: Need, kind: str, wanted: str | None, count: int) -> list[Offer]:
    found = []
    for gpu in market.gpus:
        price = gpu.spot_price if need.spot else gpu.price
        if price is None or (wanted is not None and not same_gpu(wanted, gpu.gpu)):
            continue
        if gpu.kind not in {kind, None} or (need.spot and kind == VM):
            continue
        if not _in_region(need, gpu.region) or not _enough(market, need, gpu, count):
            continue
        found.append(_offer(market, need, gpu, kind=kind, count=count, price=price))
    return found


def _enough(market: Market, need: Need, gpu: Gpu, count: int) -> bool:
    most = _EUROPE_GPUS if gpu.region == catalog.EUROPE else _MOST_GPUS
    if count > most:
        return False
    if market.live and (gpu.spot_free if need.spot else gpu.free) < count:
        return False
    too_few = need.cpus is not None and gpu.cpus is not None and gpu.cpus * count < need.cpus
    memory, ram = need.memory_gib, gpu.ram_gib
    too_little = memory is not None and ram is not None and ram * count < memory
    return not (too_few or too_little)


def _offer(market: Market, need: Need, gpu: Gpu, *, kind: str, count: int, price: float) -> Offer:
    disk = max(need.disk_gib or 0, VM_DISK_GIB if kind == VM else CONTAINER_DISK_GIB)
    return Offer(
        backend=NAME,
        gpu=gpu.gpu,
        count=count,
        price=_price(market, Decimal(str(price)) * count, disk),
        region=catalog.CODES.get(gpu.region, gpu.region),
        spot=need.spot,
        usd=_usd(market, need, gpu, count, disk),
        memory_gib=None if gpu.ram_gib is None else float(gpu.ram_gib * count),
        gpu_memory_gib=gpu.memory_gib,
        cpus=None if gpu.cpus is None else gpu.cpus * count,
        disk_gib=disk,
        source=market.source,
        read_at=market.read_at,
        data={"kind": kind, "region": gpu.region, "disk_gib": str(disk)},
    )


def _usd(market: Market, need: Need, gpu: Gpu, count: int, disk: int) -> Money | None:
    """In dollars by the list that comes with ftlaunch, where the account pays in rupees."""
    if market.currency == "USD":
        return None
    for listed in catalog.GPUS:
        price = listed.spot_price if need.spot else listed.price
        if (listed.gpu, listed.region) == (gpu.gpu, gpu.region) and price is not None:
            return _price(dated(), Decimal(str(price)) * count, disk)
    return None


def _cpu_machines(market: Market, need: Need) -> list[Offer]:
    disk = max(need.disk_gib or 0, VM_DISK_GIB)
    found = []
    for plan in market.plans:
        try:
            cpus, ram = int(plan["vcpus"]), int(plan["ram_gb"])
            price = Decimal(str(plan["price_per_hour"]))
        except (KeyError, TypeError, ValueError, ArithmeticError):
            continue
        if cpus < (need.cpus or 0) or ram < (need.memory_gib or 0) or need.spot:
            continue
        if market.live and not plan.get("available"):
            continue
        regions = plan.get("regions") or ()
        free = [name for name in regions if not isinstance(regions, Mapping) or regions[name]]
        found += [
            Offer(
                backend=NAME,
                gpu=None,
                count=0,
                price=_price(market, price, disk),
                region=catalog.CODES.get(region, region),
                memory_gib=float(ram),
                cpus=cpus,
                disk_gib=disk,
                source=market.source,
                read_at=market.read_at,
                data={
                    "kind": CPU,
                    "region": region,
                    "disk_gib": str(disk),
                    "cpus": str(cpus),
                    "memory_gib": str(ram),
                },
            )
            for region in free
            if _in_region(need, region)
        ]
    return found


def _price(market: Market, machine: Decimal, disk_gib: int) -> Money:
    """The machine and its disk. The disk's price is known in dollars only."""
    disk = Decimal(catalog.DISK_PER_GIB_HOUR) * disk_gib if market.currency == "USD" else Decimal(0)
    return Money(machine + disk, market.currency)


def _in_region(need: Need, region: str) -> bool:
    asked = {name.lower() for name in need.regions}
    return not asked or bool(asked & {region.lower(), catalog.CODES.get(region, region).lower()})


def same_gpu(asked: str, name: str) -> bool:
    """Whether what a user calls `a100-80gb` or `RTXPRO6000` is what the provider calls it.

    `A100` is the one with 40 GB here, as the provider has it.
    """
    return _plain(asked) == _plain(name)


def _plain(text: str) -> str:
    plain = re.sub(r"[^a-z0-9]+", "", text.lower())
    return plain.removeprefix("nvidia").removesuffix("40gb") or plain


def known_gpus() -> list[str]:
    """The kinds of GPU the dated catalogue names, cheapest first."""
    ordered = sorted(catalog.GPUS, key=lambda gpu: gpu.price or 0)
    return list(dict.fromkeys(gpu.gpu for gpu in ordered))


def kind_of(detail: str) -> str:
    """The sort of machine that `jarvis:DETAIL` asks for. Raises BadInput."""
    if detail in {"", CONTAINER}:
        return CONTAINER
    if detail == VM:
        return VM
    raise BadInput(
        f"the backend jarvis has no {detail!r}",
        hint="write jarvis (a container), or jarvis:vm (a virtual machine)",
    )
