"""Verdicts as they are noted: the last observation of a job, once it does not change any more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backends.lease import Observation, Phase
from backends.offer import Money


def verdict_of(seen: Observation) -> dict[str, Any]:
    """An observation as JSON takes it; what it has cost is told anew each time."""
    return {
        "phase": seen.phase.value,
        "exit_code": seen.exit_code,
        "reason": seen.reason,
        "state": dict(seen.state) if seen.state is not None else None,
    }


def remembered(verdict: Mapping[str, Any], cost: Money | None) -> Observation:
    """The reverse of `verdict_of`."""
    return Observation(
        Phase(verdict["phase"]),
        verdict["exit_code"],
        str(verdict["reason"]),
        cost,
        verdict["state"],
    )
