"""What the provider has billed: spans of time at a rate, per machine, GPU and disk apart."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from typing import Any, Literal

Kind = Literal["gpu", "disk", "filesystem"]

DISK_PER_GB_HOUR = Decimal("0.00014")
_MINUTES = frozenset({"gpu"})
"""Kinds that are billed by the begun minute; a disk is billed by the second."""


@dataclass
class Span:
    """Something billed `rate` dollars an hour from `start` to `end` (None: it still does).

    machine   the machine's id, or the filesystem's
    start     provider seconds, as `Clock.now` gives them
    """

    machine: int
    name: str
    kind: Kind
    rate: Decimal
    start: float
    end: float | None = None

    def seconds(self, now: float, *, after: float = 0.0) -> float:
        """Billed seconds, of those after a moment."""
        last = now if self.end is None else self.end
        return max(0.0, last - max(self.start, after))

    def dollars(self, now: float) -> Decimal:
        """What was billed until now."""
        seconds = self.seconds(now)
        if self.kind in _MINUTES:
            return self.rate * math.ceil(seconds / 60) / 60
        return self.rate * Decimal(str(seconds)) / 3600


@dataclass(frozen=True)
class Bill:
    """What one machine (or filesystem) has cost in one kind, and whether it still costs."""

    machine: int
    name: str
    kind: Kind
    seconds: float
    dollars: Decimal
    since: float | None
    """Provider time since when it bills; None: it does not any more."""


@dataclass
class Meter:
    """Every span there was. A copy of it is what a test reads."""

    spans: list[Span] = field(default_factory=list)
    now: float = 0.0

    def begin(self, machine: int, name: str, kind: Kind, rate: Decimal, now: float) -> None:
        """It bills from now on."""
        self.spans.append(Span(machine, name, kind, rate, now))

    def finish(self, machine: int, now: float, *kinds: Kind) -> None:
        """It bills no more in these kinds."""
        for span in self.spans:
            if span.machine == machine and span.end is None and span.kind in kinds:
                span.end = now

    def bills(self) -> list[Bill]:
        """One row for each machine and kind, in the order in which they began."""
        rows: dict[tuple[int, Kind], list[Span]] = {}
        for span in self.spans:
            rows.setdefault((span.machine, span.kind), []).append(span)
        return [self._bill(spans) for spans in rows.values()]

    def _bill(self, spans: list[Span]) -> Bill:
        last = spans[-1]
        return Bill(
            machine=last.machine,
            name=last.name,
            kind=last.kind,
            seconds=sum(span.seconds(self.now) for span in spans),
            dollars=sum((span.dollars(self.now) for span in spans), Decimal()),
            since=last.start if last.end is None else None,
        )

    def billing(self, *kinds: Kind) -> list[Bill]:
        """What bills right now; by default GPUs and machines' disks, not filesystems."""
        wanted = kinds or ("gpu", "disk")
        return [bill for bill in self.bills() if bill.since is not None and bill.kind in wanted]

    @property
    def total(self) -> Decimal:
        """Dollars so far, of everything."""
        return self.cost(self.spans)

    def cost(self, spans: Iterable[Span]) -> Decimal:
        """Dollars of these spans until now."""
        return sum((span.dollars(self.now) for span in spans), Decimal())

    def after(self, moment: float, *, kind: Kind = "gpu", name: str | None = None) -> float:
        """Billed seconds after a moment of `Cloud.now`: what was paid once nothing was needed."""
        return sum(
            span.seconds(self.now, after=moment)
            for span in self.spans
            if span.kind == kind and name in {None, span.name}
        )

    def as_json(self) -> list[dict[str, Any]]:
        """For the state file and for the test's side."""
        return [asdict(span) | {"rate": str(span.rate)} for span in self.spans]

    @classmethod
    def from_json(cls, rows: Iterable[dict[str, Any]], now: float = 0.0) -> Meter:
        """What `as_json` gave."""
        return cls([Span(**{**row, "rate": Decimal(row["rate"])}) for row in rows], now)
