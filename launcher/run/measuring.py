"""What a job really took: its peak of memory, its pace, the seconds of each phase."""

from __future__ import annotations

import contextlib
import math
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from statistics import median
from typing import Any

from backends.errors import BadInput, FtlaunchError
from backends.offer import Offer
from launcher import gpus
from launcher.run import inventory
from launcher.run.desk import Desk
from launcher.run.logs import LogReader
from launcher.run.spec import offer_from_json
from launcher.store import JobRecord

WARM = 3
"""Steps that are left out of the pace: kernels are compiled in them, and memory is first taken."""
LEAST = 3
"""Steps after them that a pace is made of, at least."""


@dataclass(frozen=True)
class Took:
    """What a job's own record says.

    step_s    seconds of an optimizer's step, by the median; None where there were too few
    peak_gib  of tensors on one GPU, as torch counts them; None without a GPU
    seconds   by phase: preprocess, load (until the first step), train, merge, evaluate
    """

    step_s: float | None = None
    peak_gib: float | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)


def took(state: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> Took:
    """From the runner's state and its metrics.

    axolotl's own tokens a second count only what is trained on, not what is fed: the pace is taken
    from when its bar moved.
    """
    steps = {str(step["name"]): step for step in state.get("steps", ())}
    seconds = {
        name: length
        for name, step in steps.items()
        if name in {"preprocess", "merge", "evaluate"}
        and step.get("phase") == "succeeded"
        and (length := _between(step.get("started_at"), step.get("ended_at"))) is not None
    }
    bar = _bar(rows)
    if bar and "train" in steps:
        began = _time(steps["train"].get("started_at"))
        if began is not None:
            seconds["load"] = max(0.0, (bar[0][0] - began).total_seconds())
        seconds["train"] = (bar[-1][0] - bar[0][0]).total_seconds()
    found = [row.get("memory_gib") for row in rows]
    peaks = [one for one in found if isinstance(one, int | float) and 0 < one < math.inf]
    return Took(_pace(bar), max(peaks, default=0.0) or None, seconds)


def _bar(rows: Sequence[Mapping[str, Any]]) -> list[tuple[datetime, int]]:
    """When the training's bar was at which step: an evaluation's is shorter."""
    whole = max((int(row["steps"]) for row in rows if "steps" in row), default=0)
    found = [
        (when, int(row["step"]))
        for row in rows
        if row.get("steps") == whole and "step" in row
        if (when := _time(row.get("time"))) is not None
    ]
    # A second attempt of the same job begins again below: only the last one is whole.
    last = max((n for n in range(1, len(found)) if found[n][1] < found[n - 1][1]), default=0)
    return found[last:]


def _pace(bar: Sequence[tuple[datetime, int]]) -> float | None:
    gaps: list[float] = []
    for (before, first), (after, second) in pairwise(bar):
        if second > first >= WARM:
            gaps += [(after - before).total_seconds() / (second - first)] * (second - first)
    return median(gaps) if len(gaps) >= LEAST and median(gaps) > 0 else None


def _between(start: object, end: object) -> float | None:
    began, ended = _time(start), _time(end)
    return None if began is None or ended is None else (ended - began).total_seconds()


def _time(text: object) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text)) if text else None
    except ValueError:
        return None


def record(desk: Desk, job: JobRecord, *, pull_s: float | None) -> None:
    """Write down what an ended job took; a run never fails by it.

    While its files are there: the runner's own record is read from them. How long its launch took
    was said then, and of its pull only `pull_s` is taken: between the times that the store has,
    this computer may have been asleep.
    """
    with contextlib.suppress(FtlaunchError, ValueError, TypeError, KeyError, sqlite3.Error):
        if job.files is None or job.launched_at is None or desk.settled.workload is None:
            return
        offer = offer_from_json(job.offer)
        if job.kind == "inference" or offer.nodes > 1:
            return
        backend = desk.backend(job)
        state = inventory.state(backend, job.files)
        rows = list(LogReader(backend, job.files).metrics(state))
        found = took(state, rows)
        seconds = dict(found.seconds)
        if not (offer.ends or offer.here) and (start_s := _launch_s(desk, job)) is not None:
            seconds["start"] = start_s
        if pull_s is not None and not offer.here:
            seconds["pull"] = pull_s
        desk.store.save_measurement(
            job=job.name,
            backend=job.backend,
            gpu=_gpu(offer) if job.kind == "train" else None,
            count=offer.count,
            method=str(desk.settled.config.get("adapter") or "full"),
            step_s=found.step_s,
            peak_gib=found.peak_gib,
            seconds=seconds,
            workload=desk.settled.workload,
        )


def _launch_s(desk: Desk, job: JobRecord) -> float | None:
    """What `launching` said of it."""
    said = [one for one in desk.store.events(desk.run.id) if one.kind == "launched"]
    found = [one.data.get("seconds") for one in said if one.job_id == job.id]
    return float(found[-1]) if found and found[-1] is not None else None


def _gpu(offer: Offer) -> str | None:
    """The kind's own name: what a provider calls an A100 is one of two."""
    if offer.gpu is None:
        return None
    try:
        return gpus.find(offer.gpu, offer.gpu_memory_gib).name
    except BadInput:
        return offer.gpu
