"""Fitting the estimator's constants, and rehearsing on sources that the fit never saw."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import estimator_rows as rows
from benchmarks.estimator_rows import Measured
from launcher.estimate import memory, speed
from launcher.estimate.fitted import FITTED

MEMORY, SPEED = "memory_dev.csv", "throughput_dev.csv"
"""What others published: the constants of the time model and all ranges come from these alone."""

OWN_MEMORY, OWN_SPEED = "own_memory.csv", "own_throughput.csv"
"""What gpu_grid.py measured on an H100: nothing is fitted to these, but three factors of memory in
transformers 5 were read off them (`loss_stock`, `reserved_adapter`, `reserved_logit`)."""

MEANING: dict[str, str] = {
    "loss_stock": "bytes per logit at the peak of a loss that is not fused, transformers 5",
    "loss_stock_4": "the same in transformers 4",
    "loss_autocast": "bytes per logit more there under autocast: the copy for the caller",
    "loss_chunked": "bytes per logit of a chunked loss",
    "workspace": "GiB that libraries take through the allocator",
    "reserved": "reserved over allocated",
    "reserved_adapter": "the same of adapters in transformers 5, the logits aside",
    "reserved_logit": "bytes per logit that the allocator holds besides, there",
    "context": "GiB of a process's CUDA context",
    "nccl": "GiB more with several GPUs",
    "tight": "reserved over allocated when the allocator has given back what it can; judged",
    "matmul": "share of a GPU's best rate that products reach",
    "attention": "the same for attention before Hopper",
    "attention_hopper": "the same for attention on Hopper and later",
    "elementwise": "times that what is kept for the backward pass is moved",
    "loss_traffic": "bytes moved per logit",
    "dequantise": "share of the bandwidth that de-quantising reaches",
    "dequantise_gptq": "the same for GPTQ's kernels",
    "selective_again": "share of a forward pass that selective checkpointing repeats",
    "launch_full": "ms to launch a block's kernels, with checkpointing",
    "launch_lora": "the same with adapters",
    "launch_qlora": "the same with adapters on quantised weights",
    "launch_expert": "blocks that one expert more is worth; judged, not measured",
    "launch_compiled": "factor on these with torch.compile",
    "launch_zero3": "factor on these under ZeRO-3",
    "adapter_traffic": "bytes moved per input and output feature of an adapter",
    "link": "share of a link's rate that collectives reach",
    "bus": "the same where GPUs reach each other over the bus alone",
    "memory_low": "lower end of the 80 % range over the estimate, on one GPU",
    "memory_high": "upper end, on one GPU",
    "memory_low_many": "lower end on several GPUs, where frameworks differ more",
    "memory_high_many": "upper end on several GPUs",
    "speed_low": "lower end of the 80 % range over the estimate",
    "speed_high": "upper end",
}

PRIOR: dict[str, float] = {
    "loss_stock": 12.0, "loss_stock_4": 14.0, "loss_autocast": 2.0, "loss_chunked": 2.2,
    "workspace": 0.05,
    "reserved": 1.07, "reserved_adapter": 1.04, "reserved_logit": 2.7,
    "context": 0.7, "nccl": 0.5, "tight": 1.04,
    "matmul": 0.85, "attention": 0.55, "attention_hopper": 0.4, "elementwise": 8.0,
    "loss_traffic": 40.0, "dequantise": 0.5, "dequantise_gptq": 0.17, "selective_again": 0.7,
    "launch_full": 3.0, "launch_lora": 5.1, "launch_qlora": 6.8,
    "launch_expert": 0.1,
    "launch_compiled": 0.5, "launch_zero3": 3.0, "link": 0.8,
    "adapter_traffic": 30.0, "bus": 0.4,
}  # fmt: skip
"""What was known before any row was looked at, by the sources in docs/estimating.md."""

OF_MEMORY: tuple[str, ...] = ()
"""None: what is known of how frameworks work is enough."""

OF_SPEED = (
    "matmul", "attention", "attention_hopper", "elementwise", "dequantise_gptq", "launch_full",
    "launch_lora", "launch_qlora", "launch_zero3", "link", "selective_again", "adapter_traffic",
)  # fmt: skip

AT_MOST: dict[str, float] = {"matmul": 1.0, "link": 1.0, "selective_again": 1.0}
"""Shares that cannot be more than all."""

Predict = Callable[[Measured], float]
Misses = Sequence[tuple[Measured, float]]
"""Rows with their errors."""


def predicted_memory(row: Measured) -> float:
    """GiB in the row's own metric; `unknown` is read off nvidia-smi, as people do."""
    estimate = memory(row.shape, row.setup, row.gpu, row.count)
    by_metric = {"alloc": estimate.alloc, "reserved": estimate.reserved}
    return by_metric.get(row.metric, estimate.nvml).middle


def predicted_speed(row: Measured) -> float:
    """Tokens/s of one GPU."""
    return speed(row.shape, row.setup, row.gpu, row.count).tokens_per_s.middle


def usable(path: Path) -> list[Measured]:
    """The scored rows of a table that are physically possible."""
    found = (rows.measured(row) for row in rows.read(path))
    return [row for row in found if row.scored and row.value and possible(row)]


def possible(row: Measured) -> bool:
    """False for a rate that needs more than the GPU's dense peak: a sum over GPUs, misread."""
    if row.metric or row.value is None or row.row.get("precision") == "fp8":
        return True
    full = row.setup.method == "full"
    return bool(row.value * row.shape.active_params * (6 if full else 4) <= row.gpu.dense)


def error(row: Measured, predict: Predict) -> float:
    """The logarithm of predicted over measured."""
    assert row.value
    return math.log(predict(row) / row.value)


def sources(found: Iterable[Measured]) -> dict[str, list[Measured]]:
    """Rows by their source."""
    by: dict[str, list[Measured]] = {}
    for row in found:
        by.setdefault(row.group, []).append(row)
    return by


def _cost(
    names: Sequence[str], groups: Mapping[str, Sequence[Measured]], predict: Predict
) -> float:
    """How far off: each source counts by the root of its rows; far from the prior costs, too."""
    total = weight = 0.0
    for found in groups.values():
        share = math.sqrt(min(len(found), 100))
        total += share * statistics.fmean(_huber(error(row, predict)) for row in found)
        weight += share
    pull = sum(math.log(FITTED[name] / PRIOR[name]) ** 2 for name in names)
    return total / weight + 0.01 * pull


def _huber(miss: float, knee: float = 0.1) -> float:
    size = abs(miss)
    return size * size / (2 * knee) if size < knee else size - knee / 2


def fit(names: Sequence[str], found: Sequence[Measured], predict: Predict) -> dict[str, float]:
    """Coordinate descent over the named constants, from the prior; the rest stay as they are."""
    FITTED.update({name: PRIOR[name] for name in names})
    groups = sources(found)
    best = _cost(names, groups, predict)
    size = 1.25
    while size > 1.01:
        better = False
        for name in names:
            for factor in (size, 1 / size):
                before = FITTED[name]
                FITTED[name] = min(before * factor, AT_MOST.get(name, math.inf))
                cost = _cost(names, groups, predict)
                if cost < best - 1e-9:
                    best, better = cost, True
                else:
                    FITTED[name] = before
        if not better:
            size = math.sqrt(size)
    return {name: round(FITTED[name], 4) for name in names}


def held_out(
    names: Sequence[str], found: Sequence[Measured], predict: Predict
) -> list[tuple[Measured, float]]:
    """Each row with its error under a fit to all sources but its own."""
    kept = dict(FITTED)
    out: list[tuple[Measured, float]] = []
    for group, own in sources(found).items():
        fit(names, [row for row in found if row.group != group], predict)
        out += [(row, error(row, predict)) for row in own]
    FITTED.update(kept)
    return out


def ends(misses: Misses, wider: float = 1.0) -> tuple[float, float]:
    """The factors around an estimate that hold 80 % of the held-out truths, sources as equals."""
    by: dict[str, list[float]] = {}
    for row, miss in misses:
        by.setdefault(row.group, []).append(-miss)
    weighted = sorted((miss, 1 / math.sqrt(len(group))) for group in by.values() for miss in group)
    if not weighted:
        return 1.0, 1.0
    whole = sum(weight for _, weight in weighted)

    def at(share: float) -> float:
        run = 0.0
        for miss, weight in weighted:
            run += weight
            if run >= share * whole:
                return miss
        return weighted[-1][0]

    return round(math.exp(wider * at(0.1)), 3), round(math.exp(wider * at(0.9)), 3)


def everything(
    of_memory: Sequence[Measured], of_speed: Sequence[Measured]
) -> tuple[dict[str, float], dict[str, float]]:
    """The constants by a fit to all rows, and the ranges by rows that were held out."""
    FITTED.update(dict.fromkeys(MEANING, 1.0) | PRIOR)
    of_one, of_many = by_count(held_out(OF_MEMORY, of_memory, predicted_memory))
    one, many = ends(of_one, WIDER), ends(of_many)
    pace = ends(held_out(OF_SPEED, of_speed, predicted_speed), WIDER)
    FITTED.update(PRIOR)
    values = dict(PRIOR)
    values.update(fit(OF_MEMORY, of_memory, predicted_memory))
    values.update(fit(OF_SPEED, of_speed, predicted_speed))
    bounds = {
        "memory_low": one[0], "memory_high": one[1],
        "memory_low_many": many[0], "memory_high_many": many[1],
        "speed_low": pace[0], "speed_high": pace[1],
    }  # fmt: skip
    return values, bounds


WIDER = 1.2
"""A range is this much wider than what held-out rows ask for: the rules were written with these
rows in view, and new sources will be met less well. A judgement. The memory's on several GPUs is
wide as it is."""


def by_count(misses: Misses) -> tuple[Misses, Misses]:
    """Rows of one GPU, and rows of several."""
    one = [each for each in misses if each[0].count == 1]
    return one, [each for each in misses if each[0].count > 1]


@dataclass(frozen=True)
class Score:
    """How well a set of rows was met; shares are of rows."""

    rows: int
    median: float
    within_15: float
    p90: float
    of_sources: float
    signed: float


def score(misses: Misses) -> Score:
    """The figures that the estimator is judged by, as relative errors."""
    relative = [(row.group, math.exp(miss) - 1) for row, miss in misses]
    sizes = sorted(abs(each) for _, each in relative)
    by: dict[str, list[float]] = {}
    for group, each in relative:
        by.setdefault(group, []).append(abs(each))
    return Score(
        rows=len(sizes),
        median=statistics.median(sizes),
        within_15=sum(each <= 0.15 for each in sizes) / len(sizes),
        p90=sizes[min(int(0.9 * len(sizes)), len(sizes) - 1)],
        of_sources=statistics.fmean(statistics.median(each) for each in by.values()),
        signed=statistics.median(each for _, each in relative),
    )
