"""Which cases a run of the tests tries, and what is kept of each.

FTLAUNCH_FAULTS=full tries every one there is; else FTLAUNCH_FAULTS_SEED chooses some.
"""

from __future__ import annotations

import os

import pytest

from skypilot_faults.cases import Case, every, sample
from skypilot_faults.journey import Outcome

FULL = os.environ.get("FTLAUNCH_FAULTS") == "full"
_SEED = int(os.environ.get("FTLAUNCH_FAULTS_SEED", "20261126"))
_SAMPLE = {"verb": 10, "guest": 1, "made": 1}
_CASES = every() if FULL else sample(_SEED, _SAMPLE)
LOOKS = [case for case in _CASES if case.phase.way == "verb"]
RUNS = [case for case in _CASES if case.phase.way != "verb"]

MARKS = [
    pytest.mark.faults,
    pytest.mark.slurm,
    pytest.mark.timeout(3600),
    # What SkyPilot is warned of by the libraries it stands on is its own affair.
    *(pytest.mark.filterwarnings(f"ignore::{kind}") for kind in ("DeprecationWarning", "Warning")),
]


def row(case: Case, outcome: Outcome) -> dict[str, object]:
    """What is kept of a case."""
    call, fault, phase = case.triple
    return {
        "call": call,
        "fault": fault,
        "phase": phase,
        "ended": outcome.ended if "failed" not in outcome.ended else f"refused {outcome.ended}",
        "leaked": len(outcome.leaked),
        "lost": len(outcome.lost),
        "other": len(outcome.undone),
        "after_s": None if outcome.after_s is None else round(outcome.after_s, 3),
        "billed_s": round(outcome.billed_s, 3),
    }
