"""What can be rented, where, for how much, and how much of it is free."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

NOIDA, CHENNAI, EUROPE = "india-noida-01", "india-chennai-01", "europe-01"
REGIONS = (NOIDA, CHENNAI, EUROPE)

TEMPLATES = (
    "pytorch", "fastai", "automatic", "axolotl", "comfyui", "fooocus", "ollama", "tensorflow",
    "vllm", "vm",
)  # fmt: skip

RUPEES = Decimal(88)
"""What a dollar costs an account that pays in rupees."""


@dataclass(frozen=True)
class Gpu:
    """One line of the price list, dollars an hour for one GPU; `spot` is None: there is none."""

    type: str
    region: str
    price: Decimal
    spot: Decimal | None
    vram: str
    arc: str
    cpus: int
    ram: int
    free: int


_KINDS = {  # memory in GB, architecture, CPUs and GB of memory for each GPU
    "RTX-PRO6000": ("96", "Blackwell", 28, 160),
    "H200": ("141", "Hopper", 24, 200),
    "H100": ("80", "Hopper", 24, 200),
    "A100-80GB": ("80", "Ampere", 28, 112),
    "A100": ("40", "Ampere", 16, 112),
    "L4": ("24", "Ada", 28, 124),
    "A30": ("24", "Ampere", 14, 100),
}

_EACH = 8
"""So many of each are free at first."""


def _gpu(name: str, region: str, price: str, spot: str | None = None) -> Gpu:
    dear, cheap = Decimal(price), None if spot is None else Decimal(spot)
    return Gpu(name, region, dear, cheap, *_KINDS[name], _EACH)


PRICES = (
    _gpu("RTX-PRO6000", CHENNAI, "1.89", "0.99"),
    _gpu("H200", NOIDA, "3.99", "1.99"),
    _gpu("H100", NOIDA, "2.69", "1.19"),
    _gpu("A100-80GB", NOIDA, "1.49", "0.89"),
    _gpu("A100", NOIDA, "0.89", "0.79"),
    _gpu("L4", NOIDA, "0.44", "0.29"),
    _gpu("A30", NOIDA, "0.41", "0.29"),
    _gpu("H100", EUROPE, "2.99"),
    _gpu("H200", EUROPE, "3.99"),
)

CPU_PLANS = ((2, 8, "0.0496"), (4, 16, "0.0992"), (8, 32, "0.1984"), (16, 64, "0.3968"))
"""vCPUs, GB of memory, dollars an hour; in Noida only."""


@dataclass
class Catalogue:
    """The price list with what is free of it. Machines take from it and give back."""

    free: dict[tuple[str, str], int] = field(
        default_factory=lambda: {(gpu.type, gpu.region): gpu.free for gpu in PRICES}
    )
    currency: str = "USD"

    def gpu(self, name: str, region: str) -> Gpu | None:
        """The line of a GPU in a region."""
        return next((gpu for gpu in PRICES if (gpu.type, gpu.region) == (name, region)), None)

    def take(self, name: str, region: str, count: int) -> bool:
        """Reserve so many, or none at all."""
        left = self.free.get((name, region), 0) - count
        if left < 0:
            return False
        self.free[name, region] = left
        return True

    def give(self, name: str, region: str, count: int) -> None:
        """They are free again."""
        self.free[name, region] = self.free.get((name, region), 0) + count

    def money(self, dollars: Decimal) -> float:
        """A price as the account sees it."""
        return float(round(dollars * RUPEES, 2) if self.currency == "INR" else dollars)

    def meta(self) -> dict[str, Any]:
        """The answer of `misc/server_meta`."""
        rows = [row for gpu in PRICES for row in self._rows(gpu)]
        plans = [
            {
                "vcpus": cpus,
                "ram_gb": ram,
                "price_per_hour": self.money(Decimal(price)),
                "available": True,
                "regions": {NOIDA: True, CHENNAI: False, EUROPE: False},
            }
            for cpus, ram, price in CPU_PLANS
        ]
        return {"server_meta": rows, "cpu_meta": {"combinations": plans}, "currency": self.currency}

    def _rows(self, gpu: Gpu) -> list[dict[str, Any]]:
        # In Europe a row says no kind of workload, and the devices free are those of all hosts.
        kinds: tuple[str | None, ...] = (None,) if gpu.region == EUROPE else ("container", "vm")
        free = self.free[gpu.type, gpu.region]
        row = {
            "gpu_type": gpu.type,
            "region": gpu.region,
            "num_free_devices": free,
            "effective_num_free_devices": str(free),
            "spot_num_free_devices": None if gpu.spot is None else free,
            "price_per_hour": self.money(gpu.price),
            "spot_price": None if gpu.spot is None else self.money(gpu.spot),
            "vram": gpu.vram,
            "arc": gpu.arc,
            "cpus_per_gpu": gpu.cpus,
            "ram_per_gpu": gpu.ram,
            "num_gpus": "8",
        }
        return [row | {"workload_type": kind} for kind in kinds]


def cpu_price(vcpus: int, ram: int) -> Decimal | None:
    """Dollars an hour of a machine without a GPU; None: there is no such plan."""
    return next((Decimal(p) for cpus, gb, p in CPU_PLANS if (cpus, gb) == (vcpus, ram)), None)
