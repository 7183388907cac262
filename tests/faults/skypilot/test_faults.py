"""A fault at a call, a journal step or a machine: nothing is left billing, nothing is lost.

FTLAUNCH_FAULTS=full tries every one there is; else FTLAUNCH_FAULTS_SEED chooses some.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable

import pytest
from skypilot_faults.cases import PHASES, Case, Phase, every, sample
from skypilot_faults.journey import Journey, Outcome
from skypilot_faults.verbs import Verbs

pytestmark = [
    pytest.mark.faults,
    pytest.mark.slurm,
    pytest.mark.timeout(3600),
    # What SkyPilot is warned of by the libraries it stands on is its own affair.
    *(pytest.mark.filterwarnings(f"ignore::{kind}") for kind in ("DeprecationWarning", "Warning")),
]

FULL = os.environ.get("FTLAUNCH_FAULTS") == "full"
SEED = int(os.environ.get("FTLAUNCH_FAULTS_SEED", "20261126"))
SAMPLE = {"verb": 10, "guest": 1, "made": 1}
CASES = every() if FULL else sample(SEED, SAMPLE)
LOOKS = [case for case in CASES if case.phase.way == "verb"]
RUNS = [case for case in CASES if case.phase.way != "verb"]

Attempt = Callable[..., tuple[Journey, Outcome]]
Record = Callable[[str, object], None]


@pytest.mark.parametrize("case", LOOKS, ids=lambda case: case.id)
def test_nobody_guesses(verbs: Verbs, case: Case, record_property: Record) -> None:
    outcome = verbs.tried(case)
    record_property("skypilot fault", json.dumps(row(case, outcome)))
    assert not outcome.problems, outcome


@pytest.mark.parametrize("case", RUNS, ids=lambda case: case.id)
def test_nothing_is_lost_and_nothing_bills(
    attempt: Attempt, case: Case, record_property: Record
) -> None:
    journey, outcome = attempt(case)
    record_property("skypilot fault", json.dumps(row(case, outcome)))
    assert not outcome.problems, (outcome, journey.codes, journey.log.read_text()[-2000:])


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


@pytest.mark.parametrize("way", ["guest", "made"] if FULL else ["guest"])
def test_a_run_without_a_fault_does_what_the_cases_say(attempt: Attempt, way: str) -> None:
    journey, outcome = attempt(None, way=way)
    assert outcome.problems == [], (outcome, journey.log.read_text()[-2000:])
    assert set(outcome.ended.split("+")) == {"succeeded"}
    calls = journey.world.way.calls
    rows = journey.rows()
    marks = [(row["phase"], row["calls"]) for row in rows if row["what"] == "phase"]
    for phase in [one for one in PHASES if one.way == way]:
        number = [name for name, _ in marks].index(phase.at)
        ends = marks[number + 1][1] if number + 1 < len(marks) else len(calls)
        made = set(calls[marks[number][1] : ends])
        written = {r["name"] for r in rows if r["what"] == "step" and r["phase"] == phase.at}
        assert set(phase.calls) <= made, (phase.name, made)
        assert set(phase.steps) <= written, (phase.name, written)


@pytest.mark.parametrize("phase", [one for one in PHASES if one.way == "verb"], ids=lambda p: p.at)
def test_a_verb_without_a_fault_does_what_the_cases_say(verbs: Verbs, phase: Phase) -> None:
    before = verbs.way.passed()
    assert verbs.right(phase.at) == ""
    assert set(phase.calls) <= set(verbs.way.calls[before:])
