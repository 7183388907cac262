"""One offer for one recipe: does it fit, how long, how many dollars for the whole job."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Literal

from backends.errors import BadInput
from backends.offer import Money, Offer
from launcher import gpus
from launcher.estimate import GpuKind, MemoryEstimate, Range, corrected, duration, memory
from launcher.quotes import assumed
from launcher.quotes.learning import NONE, NOTHING, Correction, Learned
from launcher.quotes.market import Priced
from launcher.quotes.workload import Workload

Fit = Literal["yes", "tight", "no", "unknown"]
_FITS: Mapping[str, Fit] = {"fits": "yes", "tight": "tight", "no": "no"}
ZERO = Range(0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Billed:
    """Seconds that are paid for: on what is rented, and without a GPU where that is apart."""

    full: Range
    plain: Range


@dataclass(frozen=True)
class Quote:
    """What an offer comes to.

    fits      the training's memory in that of one GPU; unknown: of this GPU no figures are known
    memory    what it takes; None where that is unknown
    phases    seconds by name, in order
    hours     of the whole job; None where nobody knows how much there is to train on
    billed    what of that is paid for; None likewise
    pace      how the time of a step was corrected by earlier runs; held: how the memory was

    There are tens of thousands of offers, of a few hundred kinds: all but the price is shared.
    """

    priced: Priced
    fits: Fit
    memory: MemoryEstimate | None
    phases: Mapping[str, Range]
    hours: Range | None
    billed: Billed | None
    pace: Correction = NONE
    held: Correction = NONE

    @property
    def cost(self) -> tuple[Money, Money, Money] | None:
        """Low, likely and high, of the whole job, in the offer's currency; None as for `hours`."""
        return None if self.billed is None else _cost(self.offer, self.billed)

    @property
    def likely(self) -> float:
        """What is sorted by: the likely cost; of an hour where nobody knows how many it takes.

        In dollars; infinite where they are not known.
        """
        hour = float(self.offer.price.amount)
        if self.offer.price.currency != "USD":
            known = self.offer.dollars(self.offer.price if self.cost is None else self.cost[1])
            return float("inf") if known is None else float(known)
        if self.billed is None:
            return hour
        cost = hour * self.billed.full.middle / 3600
        if self.offer.plain is not None:
            cost += float(self.offer.plain.price.amount) * self.billed.plain.middle / 3600
        return cost

    @property
    def offer(self) -> Offer:
        """What is rented."""
        return self.priced.offer


def all_of(
    work: Workload,
    offers: Sequence[Priced],
    *,
    upload_bytes: int = 0,
    hub: bool = True,
    learned: Learned = NOTHING,
) -> list[Quote]:
    """A quote for every offer, in the order of `offers`.

    upload_bytes  that travel from this computer
    hub           the base model comes from a hub, to where the job runs
    learned       from earlier runs
    """
    kinds: dict[tuple[str | None, float | None], GpuKind | None] = {}
    trained: dict[tuple[str, int], _Trained] = {}
    alike: dict[Hashable, Quote] = {}
    quotes = []
    for priced in offers:
        offer = priced.offer
        key = _alike(priced)
        if key not in alike:
            named = (offer.gpu, offer.gpu_memory_gib)
            if named not in kinds:
                kinds[named] = _kind(offer)
            kind = kinds[named]
            if kind is None:
                alike[key] = Quote(priced, "unknown", None, {}, None, None)
            else:
                wanted = (kind.name, offer.count * offer.nodes)
                if wanted not in trained:
                    trained[wanted] = _trained(work, kind, wanted[1], learned)
                sent, done = upload_bytes, trained[wanted]
                alike[key] = _quote(work, priced, done, learned, upload_bytes=sent, hub=hub)
        one = alike[key]
        same = (one.fits, one.memory, one.phases, one.hours, one.billed, one.pace, one.held)
        quotes.append(Quote(priced, *same))
    return quotes


def _alike(priced: Priced) -> tuple[Hashable, ...]:
    """What all but the price depends on."""
    offer = priced.offer
    plain = offer.plain is not None
    size = (offer.gpu_memory_gib, offer.count, offer.nodes)
    return priced.backend, offer.gpu, size, offer.here, offer.ends, plain


def cheapest(offers: Iterable[Priced]) -> list[Priced]:
    """Of offers that differ in nothing but place and price the cheapest."""
    best: dict[Hashable, Priced] = {}
    for priced in offers:
        price = priced.offer.price
        key = (_alike(priced), price.currency, priced.offer.spot)
        known = best.get(key)
        if known is None or price.amount < known.offer.price.amount:
            best[key] = priced
    return list(best.values())


def _kind(offer: Offer) -> GpuKind | None:
    """The kind that an offer is of; of one name in two sizes (A100) the size that it says."""
    if offer.gpu is None:
        return None
    try:
        return gpus.find(offer.gpu, offer.gpu_memory_gib)
    except BadInput:
        return None


@dataclass(frozen=True)
class _Done:
    """Seconds of training and of evaluating, and how often a checkpoint is written."""

    training: Range
    evaluating: Range
    saves: int


@dataclass(frozen=True)
class _Trained:
    """Memory of one GPU, and what is done; None: of nobody knows how much there is to do."""

    memory: MemoryEstimate
    done: _Done | None
    pace: Correction
    held: Correction


def _trained(work: Workload, kind: GpuKind, count: int, learned: Learned) -> _Trained:
    held, pace = learned.memory(work, kind, count), learned.pace(work, kind, count)
    took = memory(work.shape, work.setup_longest, kind, count)
    took = took if held is NONE else corrected(took, held.of)
    done = _done(work, kind, count)
    if done is not None and pace is not NONE:
        done = _Done(pace.of(done.training), pace.of(done.evaluating), done.saves)
    return _Trained(took, done, pace, held)


def _done(work: Workload, kind: GpuKind, count: int) -> _Done | None:
    tokens = None if work.data is None else work.data.tokens
    planned = work.schedule
    if tokens is None and planned.max_steps is None:
        return None
    setup = work.setup_fed
    of_step = setup.micro_batch * setup.seq_len * setup.grad_accum * setup.rows_per_sample
    took = duration(
        work.shape,
        setup,
        kind,
        count,
        tokens=tokens if tokens is not None else of_step * count * (planned.max_steps or 1),
        epochs=planned.epochs if tokens is not None else 1.0,
        max_steps=planned.max_steps,
        eval_tokens=work.eval_tokens,
        evaluations=1,
    )
    evaluations = planned.evaluates.times(took.steps, planned.epochs)
    saves = planned.saves.times(took.steps, planned.epochs)
    return _Done(took.training_s, took.evaluation_s * evaluations, saves)


def _quote(
    work: Workload,
    priced: Priced,
    trained: _Trained,
    learned: Learned,
    *,
    upload_bytes: int,
    hub: bool,
) -> Quote:
    how = {"pace": trained.pace, "held": trained.held}
    fits = _FITS[trained.memory.verdict]
    if trained.done is None:
        return Quote(priced, fits, trained.memory, {}, None, None, **how)
    phases = _phases(work, priced, trained.done, upload_bytes=upload_bytes, hub=hub)
    if learned.known:
        phases = learned.phases(priced.backend.partition(":")[0], phases, _surrounding)
    hours = _sum(phases.values()) * (1 / 3600)
    return Quote(priced, fits, trained.memory, phases, hours, _billed(priced.offer, phases), **how)


def _surrounding(
    work: Workload, offer: Offer, backend: str, hub: bool, upload_bytes: int
) -> dict[str, Range]:
    """What surrounds a training, of an earlier run."""
    nothing = _Done(ZERO, ZERO, 0)
    return _phases(work, Priced(backend, offer), nothing, upload_bytes=upload_bytes, hub=hub)


def _phases(
    work: Workload, priced: Priced, done: _Done, *, upload_bytes: int, hub: bool
) -> dict[str, Range]:
    name = priced.backend.partition(":")[0]
    model = 2.0 * work.shape.params
    made = model if work.merges or not work.setup.adapted else 0.0
    adapter = 4.0 * work.shape.adapter_params(work.setup.targets, work.setup.rank)
    adapter = adapter if work.setup.adapted else 0.0
    # A checkpoint holds the weights and AdamW's two values of each, in 32 bits.
    saved = 3 * adapter if work.setup.adapted else model + 8.0 * work.shape.params
    rows = 0 if work.data is None else work.data.rows
    here = priced.offer.here
    return {
        "boot": assumed.BOOT_S.get(name, assumed.OTHER_BOOT_S),
        "software": assumed.SOFTWARE_S.get(name, assumed.OTHER_SOFTWARE_S),
        "upload": ZERO if here else _flat(upload_bytes / assumed.UPLOAD_BYTES_PER_S),
        "download": _at(model if hub else 0.0, assumed.DOWNLOAD_BYTES_PER_S),
        "preprocess": _at(float(rows), assumed.ROWS_PER_S),
        "load": assumed.LOAD_S,
        "train": done.training,
        "evaluate": done.evaluating,
        "checkpoints": _at(saved * done.saves, assumed.DISK_BYTES_PER_S),
        "merge": _at(3 * made, assumed.DISK_BYTES_PER_S) if work.merges else ZERO,
        "pull": ZERO if here else _at(adapter + made, assumed.PULL_BYTES_PER_S),
    }


LONGEST_S = 1e12
"""More than any job takes, and still a length of time that can be written down."""

PLAIN = frozenset({"download", "preprocess", "merge"})
"""Where a job without a GPU is rented by itself, these are done in one."""
UNBILLED = frozenset({"boot", "software", "upload", "pull"})
"""Where what is rented bills only while a job runs in it."""


def _billed(offer: Offer, phases: Mapping[str, Range]) -> Billed:
    billed = {name: took for name, took in phases.items() if not (offer.ends and name in UNBILLED)}
    apart = {n for n in billed if offer.plain is not None and n in PLAIN}
    return Billed(
        full=_sum(took for name, took in billed.items() if name not in apart),
        plain=_sum(took for name, took in billed.items() if name in apart),
    )


def _cost(offer: Offer, billed: Billed) -> tuple[Money, Money, Money]:
    full, plain = billed.full, billed.plain

    def at(seconds: float, extra: float) -> Money:
        cost = offer.cost_of(timedelta(seconds=min(seconds, LONGEST_S)))
        if offer.plain is not None:
            cost += offer.plain.cost_of(timedelta(seconds=min(extra, LONGEST_S)))
        return Money(cost.amount, cost.currency)

    return (
        at(full.low, plain.low),
        at(full.middle, plain.middle),
        at(full.high, plain.high),
    )


def _flat(seconds: float) -> Range:
    return Range(0.5 * seconds, seconds, 2 * seconds)


def _at(amount: float, rate: Range) -> Range:
    """Seconds for an amount at a rate: the fastest rate gives the shortest time."""
    return Range(amount / rate.high, amount / rate.middle, amount / rate.low)


def _sum(ranges: Iterable[Range]) -> Range:
    """Parts that vary by themselves: their spreads add up as squares, not as ends."""
    parts = list(ranges)
    middle = sum(part.middle for part in parts)
    below = sum((part.middle - part.low) ** 2 for part in parts) ** 0.5
    above = sum((part.high - part.middle) ** 2 for part in parts) ** 0.5
    return Range(max(0.0, middle - below), middle, middle + above)


@dataclass(frozen=True)
class Caps:
    """What an offer may cost at most: dollars an hour and in all, and the time of the whole job."""

    price: Decimal | None = None
    cost: Decimal | None = None
    duration: timedelta | None = None


def above(quote: Quote, caps: Caps) -> str:
    """The limit that an offer would break, in a phrase; empty: none, or nobody can tell before."""
    price = quote.offer.price
    limited = caps.price is not None or caps.cost is not None
    if limited and price.amount > 0 and price.currency != "USD":
        return f"limits in dollars, as it is paid in {price.currency}"
    if caps.price is not None and price.amount > caps.price:
        return f"${caps.price} an hour"
    if caps.cost is not None and quote.billed is not None and quote.likely > caps.cost:
        return f"${caps.cost} in all"
    hours = None if caps.duration is None else caps.duration.total_seconds() / 3600
    if hours is not None and quote.hours is not None and quote.hours.middle > hours:
        return f"{caps.duration}"
    return ""


def ordered(quotes: Sequence[Quote], by: Literal["cost", "time"]) -> list[Quote]:
    """What fits first, the cheapest or the quickest of it on top."""

    def key(quote: Quote) -> tuple[int, float]:
        rank = {"yes": 0, "tight": 1, "no": 3, "unknown": 2}[quote.fits]
        if by == "time":
            return rank, float("inf") if quote.hours is None else quote.hours.middle
        return rank, quote.likely

    return sorted(quotes, key=key)
