"""What was billed: each attempt's container, from its start to its end."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from typing import Any

GPU_HOUR = {
    "T4": "0.59",
    "L4": "0.80",
    "A10": "1.10",
    "L40S": "1.95",
    "A100-40GB": "2.10",
    "A100-80GB": "2.50",
    "RTX-PRO-6000": "3.03",
    "H100": "3.95",
    "H200": "4.54",
    "B200": "6.25",
    "B300": "7.10",
}
CPU_HOUR = Decimal("0.0473")
GIB_HOUR = Decimal("0.008")
_SAME = {"A10G": "A10", "A100": "A100-40GB"}


@dataclass
class Span:
    """One container's time. `start` and `end` are this machine's monotonic seconds."""

    app: str
    gpu: str
    count: int
    cpus: float
    gib: float
    start: float
    end: float | None = None

    def finish(self) -> None:
        """It bills no more."""
        if self.end is None:
            self.end = time.monotonic()

    def seconds(self, *, after: float = 0.0) -> float:
        """Billed seconds, of those after a moment."""
        last = time.monotonic() if self.end is None else self.end
        return max(0.0, last - max(self.start, after))

    def rate(self) -> Decimal:
        """Dollars an hour."""
        gpu = self.gpu.rstrip("!+")
        dear = Decimal(GPU_HOUR[_SAME.get(gpu, gpu)]) * self.count if gpu else Decimal(0)
        return dear + CPU_HOUR * Decimal(str(self.cpus)) + GIB_HOUR * Decimal(str(self.gib))

    def dollars(self, speed: float) -> Decimal:
        """What it has cost, a second counting for `speed`."""
        return self.rate() * Decimal(str(self.seconds() * speed)) / 3600


@dataclass
class Meter:
    """Every container there was."""

    spans: list[Span] = field(default_factory=list)

    def begin(self, app: str, gpu: str, resources: Any) -> Span:
        """A container bills from now on."""
        span = Span(
            app,
            gpu,
            resources.gpu_config.count or (1 if gpu else 0),
            resources.milli_cpu / 1000 or 0.125,
            resources.memory_mb / 1024 or 0.125,
            time.monotonic(),
        )
        self.spans.append(span)
        return span

    def by_hour(self, hour_s: float, speed: float) -> list[tuple[str, float, Decimal]]:
        """App, an hour's begin in seconds since the epoch, and what the app cost in it."""
        found: dict[tuple[str, float], Decimal] = {}
        epoch = time.time() - time.monotonic()
        for span in self.spans:
            start, end = span.start + epoch, (span.end or time.monotonic()) + epoch
            began = start // hour_s * hour_s
            while began < end:
                inside = min(end, began + hour_s) - max(start, began)
                cost = span.rate() * Decimal(str(inside * speed)) / 3600
                found[span.app, began] = found.get((span.app, began), Decimal(0)) + cost
                began += hour_s
        return [(app, began, cost) for (app, began), cost in found.items()]

    def as_json(self) -> list[dict[str, Any]]:
        """For the test's side."""
        return [asdict(span) for span in self.spans]
