"""A fault at a call, a journal step or a machine: nothing is left billing, nothing is lost."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from skypilot_faults.cases import PHASES, Case
from skypilot_faults.chosen import FULL, MARKS, RUNS, row
from skypilot_faults.journey import Journey, Outcome

pytestmark = MARKS

Attempt = Callable[..., tuple[Journey, Outcome]]


@pytest.mark.parametrize("case", RUNS, ids=lambda case: case.id)
def test_nothing_is_lost_and_nothing_bills(
    attempt: Attempt, case: Case, record_property: Callable[[str, object], None]
) -> None:
    journey, outcome = attempt(case)
    record_property("skypilot fault", json.dumps(row(case, outcome)))
    assert not outcome.problems, (outcome, journey.codes, journey.log.read_text()[-2000:])


@pytest.mark.parametrize("way", ["guest", "made"] if FULL else ["guest"])
def test_a_run_without_a_fault_does_what_the_cases_say(attempt: Attempt, way: str) -> None:
    journey, outcome = attempt(None, way=way)
    assert outcome.problems == [], (outcome, journey.log.read_text()[-2000:])
    assert set(outcome.ended.split("+")) == {"succeeded"}
    calls = journey.world.way.calls
    rows = journey.rows()
    marks = [(one["phase"], one["calls"]) for one in rows if one["what"] == "phase"]
    for phase in [one for one in PHASES if one.way == way]:
        number = [name for name, _ in marks].index(phase.at)
        ends = marks[number + 1][1] if number + 1 < len(marks) else len(calls)
        made = set(calls[marks[number][1] : ends])
        written = {r["name"] for r in rows if r["what"] == "step" and r["phase"] == phase.at}
        assert set(phase.calls) <= made, (phase.name, made)
        assert set(phase.steps) <= written, (phase.name, written)
