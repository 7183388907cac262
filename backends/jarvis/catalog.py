"""Prices of a day that is named, for when the provider is not asked."""

from __future__ import annotations

from datetime import UTC, datetime

from backends.jarvis.api import Gpu

READ_AT = datetime(2026, 8, 17, tzinfo=UTC)
SOURCE = "Jarvis Labs, live catalogue of 2026-08-17 to 2026-09-20, kept with ftlaunch"

DISK_PER_GIB_HOUR = "0.00014"
"""USD; running and paused alike."""

NOIDA, CHENNAI, EUROPE = "india-noida-01", "india-chennai-01", "europe-01"
CODES = {CHENNAI: "IN1", NOIDA: "IN2", EUROPE: "EU1"}


def _gpu(
    name: str,
    region: str,
    memory: int,
    *,
    price: float,
    spot: float | None = None,
    cpus: int | None = None,
    ram: int | None = None,
) -> Gpu:
    return Gpu(
        gpu=name,
        region=region,
        kind=None,
        price=price,
        spot_price=spot,
        free=8,
        spot_free=8 if spot else 0,
        memory_gib=memory,
        cpus=cpus,
        ram_gib=ram,
    )


GPUS = (
    _gpu("RTX-PRO6000", CHENNAI, 96, price=1.89, spot=0.99, cpus=28, ram=160),
    _gpu("H200", NOIDA, 141, price=3.99, spot=1.99, cpus=28, ram=300),
    _gpu("H100", NOIDA, 80, price=2.69, spot=1.19, cpus=24, ram=200),
    _gpu("A100-80GB", NOIDA, 80, price=1.49, spot=0.89, cpus=28, ram=112),
    _gpu("A100", NOIDA, 40, price=0.89, spot=0.79, cpus=16, ram=112),
    _gpu("L4", NOIDA, 24, price=0.44, spot=0.29, cpus=28, ram=124),
    _gpu("A30", NOIDA, 24, price=0.41, spot=0.29),
    _gpu("H100", EUROPE, 80, price=2.99),
    _gpu("H200", EUROPE, 141, price=3.99, cpus=16, ram=200),
)
"""USD for one GPU and one hour; linear to eight of them (one in Europe)."""

CPU_PLANS = (
    {"vcpus": 2, "ram_gb": 8, "price_per_hour": 0.0496, "regions": (NOIDA, CHENNAI)},
    {"vcpus": 4, "ram_gb": 16, "price_per_hour": 0.0992, "regions": (NOIDA, CHENNAI)},
    {"vcpus": 8, "ram_gb": 32, "price_per_hour": 0.1984, "regions": (CHENNAI,)},
    {"vcpus": 16, "ram_gb": 64, "price_per_hour": 0.3968, "regions": (CHENNAI,)},
    {"vcpus": 32, "ram_gb": 128, "price_per_hour": 0.7936, "regions": (CHENNAI,)},
)
"""Virtual machines without a GPU."""
