"""What your own runs took, against what was estimated for them: the next estimate is drawn there.

The logarithm of measured over estimated is taken to be a part that a GPU and a method have in
common, a part of the recipe's own, and noise; the estimate's own range says how large the first two
may be, half its variance each. What is known of them grows with the runs (normal distributions
throughout). A run of the same recipe on the same GPU weighs most.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from statistics import fmean

from pydantic import TypeAdapter, ValidationError

from backends.errors import BadInput
from backends.offer import FREE, Offer
from launcher import gpus
from launcher.estimate import GpuKind, Range, memory, speed
from launcher.quotes.workload import Workload
from launcher.store.measurements import Measurement

MEMORY_NOISE, PACE_NOISE, PHASE_NOISE = 0.03, 0.08, 0.3
"""Between two runs of one recipe, as shares. Judged: the same GPU at another host, another day."""

NORMAL_80 = 1.2816
"""Standard deviations from the middle to the end of a range that holds four cases of five."""

PARTS: Mapping[str, tuple[str, ...]] = {
    "start": ("boot", "software", "upload"),
    "preprocess": ("preprocess",),
    "load": ("download", "load"),
    "merge": ("merge",),
    "pull": ("pull",),
}
"""What is measured together, and the phases of a quote that it is."""


@dataclass(frozen=True)
class Recorded:
    """A workload, and what else its phases follow from."""

    work: Workload
    hub: bool = True
    upload_bytes: int = 0


@cache
def _recorded() -> TypeAdapter[Recorded]:
    return TypeAdapter(Recorded)


def to_text(recorded: Recorded) -> str:
    """For the store."""
    return _recorded().dump_json(recorded).decode()


def from_text(text: str) -> Recorded | None:
    """The reverse; None for one that another ftlaunch wrote."""
    try:
        return _recorded().validate_json(text)
    except (ValidationError, BadInput):
        return None


@dataclass(frozen=True)
class Correction:
    """What an estimate is multiplied with.

    spread  the part of the range's width (in logarithms) that is left
    runs    that it is drawn from; `same` of them are of this very recipe
    weight  of what was measured, against the estimate
    """

    factor: float = 1.0
    spread: float = 1.0
    runs: int = 0
    same: int = 0
    weight: float = 0.0

    def of(self, estimate: Range) -> Range:
        """The corrected range."""
        middle = estimate.middle * self.factor
        if estimate.middle <= 0:
            return estimate
        low = max(estimate.low, 1e-9 * estimate.middle) / estimate.middle
        return Range(
            middle * low**self.spread,
            middle,
            middle * (estimate.high / estimate.middle) ** self.spread,
        )


NONE = Correction()


def drawn(
    others: Sequence[Sequence[float]], same: Sequence[float], estimate: Range, *, noise: float
) -> Correction:
    """The correction from logarithms of measured over estimated.

    others  one list for each other recipe on that GPU by that method
    same    those of this very recipe
    """
    if not (others or same) or not 0 < estimate.middle < estimate.high:
        return NONE
    whole = (math.log(estimate.high / estimate.middle) / NORMAL_80) ** 2
    half = whole / 2
    known = [(fmean(each), half + noise**2 / len(each)) for each in others]
    precision = 1 / half + sum(1 / variance for _, variance in known)
    shared = sum(mean / variance for mean, variance in known) / precision
    before = 1 / precision + half
    weight, mean, variance = 1 - 1 / half / precision, shared, before
    if same:
        weight = before / (before + noise**2 / len(same))
        mean = shared + weight * (fmean(same) - shared)
        variance = (1 - weight) * before
    left = math.sqrt((variance + noise**2) / whole)
    runs = sum(map(len, others)) + len(same)
    return Correction(math.exp(mean), min(1.0, left), runs, len(same), weight)


@dataclass(frozen=True)
class _Known:
    """A measurement whose workload can be read."""

    measured: Measurement
    recorded: Recorded
    kind: GpuKind | None

    @property
    def recipe(self) -> object:
        work = self.recorded.work
        return work.shape.name, work.setup, self.measured.count


Phases = Callable[[Workload, Offer, str, bool, int], Mapping[str, Range]]


@dataclass(frozen=True)
class Learned:
    """All that your runs have shown."""

    known: tuple[_Known, ...] = field(default=())

    def memory(self, work: Workload, kind: GpuKind, count: int) -> Correction:
        """Of the peak of tensors on one GPU."""
        if not self.known:
            return NONE

        def ratio(one: _Known) -> float | None:
            if one.measured.peak_gib is None or one.kind is None:
                return None
            past = one.recorded.work
            held = memory(past.shape, past.setup_longest, one.kind, one.measured.count)
            return _log(one.measured.peak_gib, held.alloc.middle)

        now = memory(work.shape, work.setup_longest, kind, count).alloc
        return self._drawn(work, kind, count, ratio, now, noise=MEMORY_NOISE)

    def pace(self, work: Workload, kind: GpuKind, count: int) -> Correction:
        """Of the seconds of a step."""
        if not self.known:
            return NONE

        def ratio(one: _Known) -> float | None:
            if one.measured.step_s is None or one.kind is None:
                return None
            past = one.recorded.work
            went = speed(past.shape, past.setup_fed, one.kind, one.measured.count)
            return _log(one.measured.step_s, went.step_s.middle)

        now = speed(work.shape, work.setup_fed, kind, count).step_s
        return self._drawn(work, kind, count, ratio, now, noise=PACE_NOISE)

    def _drawn(
        self,
        work: Workload,
        kind: GpuKind,
        count: int,
        ratio: Callable[[_Known], float | None],
        now: Range,
        *,
        noise: float,
    ) -> Correction:
        mine = (work.shape.name, work.setup, count)
        recipes: dict[object, list[float]] = {}
        for one in self.known:
            alike = one.kind == kind and one.recorded.work.setup.method == work.setup.method
            if alike and (found := ratio(one)) is not None:
                recipes.setdefault(one.recipe, []).append(found)
        same = recipes.pop(mine, [])
        return drawn(list(recipes.values()), same, now, noise=noise)

    def phases(self, backend: str, now: Mapping[str, Range], estimated: Phases) -> dict[str, Range]:
        """The phases that surround a training, drawn to what they took at this backend.

        estimated  what a past job's phases would be estimated at
        """
        told = dict(now)
        for part, names in PARTS.items():
            ratios = list(self._ratios(backend, part, names, estimated))
            whole = Range(*(sum(getattr(now[name], end) for name in names) for end in _ENDS))
            found = drawn([], ratios, whole, noise=PHASE_NOISE)
            for name in names:
                told[name] = found.of(now[name])
        return told

    def _ratios(
        self, backend: str, part: str, names: Sequence[str], estimated: Phases
    ) -> Iterator[float]:
        for one in self.known:
            lasted = one.measured.seconds.get(part)
            if one.measured.backend.partition(":")[0] != backend or not lasted:
                continue
            offer = Offer(backend, one.measured.gpu, one.measured.count, FREE)
            was = estimated(
                one.recorded.work,
                offer,
                one.measured.backend,
                one.recorded.hub,
                one.recorded.upload_bytes,
            )
            likely = sum(was[name].middle for name in names)
            if (found := _log(lasted, likely)) is not None:
                yield found


def _log(measured: float, likely: float) -> float | None:
    """The logarithm of their ratio; None for what no estimate is off by: it measures another thing.

    A computer that slept, a provider that stood still.
    """
    ratio = measured / likely if likely > 0 else 0.0
    found = math.log(ratio) if ratio > 0 else math.inf
    return found if abs(found) <= FAR else None


FAR = math.log(20.0)
_ENDS = ("low", "middle", "high")
NOTHING = Learned()


def of(measurements: Sequence[Measurement]) -> Learned:
    """What can be learnt from them; those of a form or a GPU that nobody knows are passed over."""
    found = []
    for one in measurements:
        recorded = from_text(one.workload)
        if recorded is not None:
            found.append(_Known(one, recorded, _kind(one.gpu)))
    return Learned(tuple(found))


def _kind(gpu: str | None) -> GpuKind | None:
    try:
        return None if gpu is None else gpus.find(gpu)
    except BadInput:
        return None
