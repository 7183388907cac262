"""Modal's price list as it was read, for when nobody can be asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

SOURCE = "Modal's price list"
READ_AT = datetime(2026, 9, 18, tzinfo=UTC)


@dataclass(frozen=True)
class Gpu:
    """A kind of GPU. `rate` is its name among the live rates, behind `gpu_hour_cost_`."""

    name: str
    price: Decimal
    memory_gib: int
    rate: str


# Dollars an hour, billed by the second; memory as the makers of the GPUs state it.
GPUS = tuple(
    Gpu(name, Decimal(price), memory, rate)
    for name, price, memory, rate in (
        ("T4", "0.59", 16, "t4"),
        ("L4", "0.80", 24, "l4"),
        ("A10", "1.10", 24, "a10g"),
        ("L40S", "1.95", 48, "l40s"),
        ("A100-40GB", "2.10", 40, "a100_40gb"),
        ("A100-80GB", "2.50", 80, "a100_80gb"),
        ("RTX-PRO-6000", "3.03", 96, "rtx6000"),
        ("H100", "3.95", 80, "h100"),
        ("H200", "4.54", 141, "h200"),
        ("B200", "6.25", 180, "b200"),
        ("B300", "7.10", 288, "b300"),
    )
)

CPU_HOUR = Decimal("0.0473")
"""Of one physical core."""
GIB_HOUR = Decimal("0.008")
VOLUME_GIB_MONTH = Decimal("0.09")


@dataclass(frozen=True)
class Rates:
    """What things cost an hour, and where that was read."""

    gpus: Mapping[str, Decimal]
    cpu: Decimal
    gib: Decimal
    source: str
    read_at: datetime


def dated() -> Rates:
    """The list above."""
    return Rates({gpu.name: gpu.price for gpu in GPUS}, CPU_HOUR, GIB_HOUR, SOURCE, READ_AT)


def live(found: Mapping[str, str], now: datetime) -> Rates:
    """Modal's own rates for this account; what it names no price of is taken from the list."""

    def rate(name: str, listed: Decimal) -> Decimal:
        text = found.get(name, "")
        return Decimal(text) if is_price(text) else listed

    gpus = {gpu.name: rate(f"{_GPU}{gpu.rate}", gpu.price) for gpu in GPUS}
    return Rates(gpus, rate(_CPU, CPU_HOUR), rate(_GIB, GIB_HOUR), "Modal, live", now)


def is_price(text: str) -> bool:
    """Whether it is a finite number of dollars above nothing: Modal gives nothing away."""
    try:
        price = Decimal(text)
    except InvalidOperation:
        return False
    return price.is_finite() and price > 0


_GPU, _CPU, _GIB = "gpu_hour_cost_", "cpu_hour_cost", "mem_gib_hour_cost"

KEPT = "Modal, as last asked from here"


def from_json(raw: Mapping[str, Any], read_at: datetime) -> Rates:
    """Rates that were kept. Raises what odd rows raise."""
    rates = {str(name): str(value) for name, value in raw["rates"].items()}
    known = {_CPU, _GIB, *(f"{_GPU}{gpu.rate}" for gpu in GPUS)}
    if not all(is_price(rates[name]) for name in known & rates.keys()):
        raise ValueError(raw)
    return replace(live(rates, read_at), source=KEPT)
