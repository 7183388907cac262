"""Runs without a fault: what they call and write is what the fault run takes for granted."""

from __future__ import annotations

import re

import pytest
from jarvis_faults.cases import CALLS, PHASES, Phase
from jarvis_faults.journeys import Journey
from jarvis_faults.outcome import Try

pytestmark = [pytest.mark.faults, pytest.mark.timeout(400)]


def made(journey: Journey, phase: Phase) -> set[str]:
    """The calls of a phase, by the names of the cases."""
    found: set[str] = set()
    counts: dict[str, int] = {}
    for row in journey.rows():
        if row["what"] != "call" or row["phase"] != phase.at:
            continue
        fitting = [
            name
            for name, (method, path, _) in CALLS.items()
            if method == row["method"] and re.search(path, row["path"])
        ]
        assert fitting, f"a call that no case has: {row}"
        first = fitting[0]
        counts[first] = counts.get(first, 0) + 1
        found |= {name for name in fitting if CALLS[name][2] < counts[first]}
    return found


@pytest.mark.parametrize("way", sorted({phase.journey for phase in PHASES}))
def test_a_run_does_what_the_cases_say(attempt: Try, way: str) -> None:
    journey, outcome = attempt(None, way=way)
    assert not outcome.problems, outcome
    for phase in PHASES:
        if phase.journey != way:
            continue
        calls = made(journey, phase)
        written = {
            row["name"]
            for row in journey.rows()
            if row["what"] == "step" and row["phase"] == phase.at
        }
        assert set(phase.calls) <= calls, phase.name
        assert set(phase.steps) <= written, phase.name
        if not phase.partly:
            assert calls == set(phase.calls), phase.name
            assert written == set(phase.steps), phase.name
