"""What jobs really took, on which GPU and by which method; kept when their runs are forgotten."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from launcher.store.journal import Journal, now, time_of

_MOST = 200
"""So many are read, the youngest first."""


@dataclass(frozen=True)
class Measurement:
    """One job's.

    gpu       None where it had none
    method    lora, qlora or full
    step_s    seconds of an optimizer's step; peak_gib: of tensors on one GPU
    seconds   by phase
    workload  what was trained, as `quotes.learning` wrote it
    """

    job: str
    at: datetime
    backend: str
    gpu: str | None
    count: int
    method: str
    step_s: float | None
    peak_gib: float | None
    seconds: Mapping[str, float]
    workload: str


class Measurements(Journal):
    """One row a job. Every method is one transaction."""

    def save_measurement(
        self,
        *,
        job: str,
        backend: str,
        gpu: str | None,
        count: int,
        method: str,
        step_s: float | None,
        peak_gib: float | None,
        seconds: Mapping[str, float],
        workload: str,
    ) -> None:
        """Record what a job took; again for the same job takes the place of it.

        What is no finite positive number is left out: a clock may have been set back.
        """
        with self._writing() as db:
            db.execute(
                "INSERT OR REPLACE INTO measurements (job, at, backend, gpu, count, method, "
                "step_s, peak_gib, seconds, workload) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    job,
                    now(),
                    backend,
                    gpu,
                    count,
                    method,
                    _sound(step_s),
                    _sound(peak_gib),
                    json.dumps(_sounds(seconds)),
                    workload,
                ),
            )

    def measurements(self) -> Sequence[Measurement]:
        """The youngest ones, the youngest first."""
        rows = self._db.execute(
            "SELECT job, at, backend, gpu, count, method, step_s, peak_gib, seconds, workload "
            "FROM measurements ORDER BY at DESC, job LIMIT ?",
            (_MOST,),
        )
        return [one for row in rows if (one := _measurement(row)) is not None]


def _measurement(row: tuple[Any, ...]) -> Measurement | None:
    """None for a row that is damaged: no estimate fails by one."""
    try:
        return Measurement(
            job=row[0],
            at=time_of(row[1]),
            backend=row[2],
            gpu=row[3],
            count=row[4],
            method=row[5],
            step_s=_sound(row[6]),
            peak_gib=_sound(row[7]),
            seconds=_sounds(json.loads(row[8])),
            workload=row[9],
        )
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None


def _sounds(seconds: Mapping[str, object]) -> dict[str, float]:
    return {name: sound for name, one in seconds.items() if (sound := _sound(one)) is not None}


def _sound(number: object) -> float | None:
    """A finite positive number as it is; None for all else."""
    if isinstance(number, bool) or not isinstance(number, int | float):
        return None
    return number if 0 < number < sys.float_info.max else None
