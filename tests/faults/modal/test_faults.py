"""A fault at an RPC, a journal step or a container: nothing is left billing, nothing is lost.

FTLAUNCH_FAULTS=full tries every one there is; else FTLAUNCH_FAULTS_SEED chooses some.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable

import pytest
from modal_faults.cases import Case, every, sample
from modal_faults.journey import Journey, Outcome

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

FULL = os.environ.get("FTLAUNCH_FAULTS") == "full"
SEED = int(os.environ.get("FTLAUNCH_FAULTS_SEED", "20261126"))
SAMPLE = 6
CASES = every() if FULL else sample(SEED, SAMPLE)

Attempt = Callable[[Case | None], tuple[Journey, Outcome]]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_nothing_is_lost_and_nothing_bills(
    attempt: Attempt, case: Case, record_property: Callable[[str, object], None]
) -> None:
    journey, outcome = attempt(case)
    call, fault, phase = case.triple
    row = {
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
    record_property("modal fault", json.dumps(row))
    assert not outcome.problems, (outcome, journey.codes, journey.log.read_text()[-2000:])


def test_a_run_without_a_fault_does_what_the_cases_say(attempt: Attempt) -> None:
    journey, outcome = attempt(None)
    assert outcome.problems == [], outcome
    assert outcome.ended == "succeeded+succeeded"
    rpcs = journey.cloud.state["rpcs"]
    rows = journey.rows()
    marks = [(row["phase"], row["calls"]) for row in rows if row["what"] == "phase"]
    for number, (phase, begins) in enumerate(marks):
        ends = marks[number + 1][1] if number + 1 < len(marks) else len(rpcs)
        made = set(rpcs[begins:ends])
        written = {r["name"] for r in rows if r["what"] == "step" and r["phase"] == phase}
        for case in every():
            if case.phase.at != phase or case.call == "container":
                continue
            assert case.call in made | written, (phase, case.call, made, written)
