"""A fault at a call or a journal step: nothing is left billing, and nothing is lost.

FTLAUNCH_FAULTS=full tries every one there is; else FTLAUNCH_FAULTS_SEED chooses some.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable

import pytest
from jarvis_faults import report
from jarvis_faults.cases import Case, every, sample
from jarvis_faults.outcome import Try

pytestmark = [pytest.mark.faults, pytest.mark.timeout(400)]

FULL = os.environ.get("FTLAUNCH_FAULTS") == "full"
SEED = int(os.environ.get("FTLAUNCH_FAULTS_SEED", "20261126"))
SAMPLE = 10
CASES = every() if FULL else sample(SEED, SAMPLE)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_nothing_is_lost_and_nothing_bills(
    attempt: Try, case: Case, record_property: Callable[[str, object], None]
) -> None:
    journey, outcome = attempt(case)
    record_property(report.PROPERTY, json.dumps(report.row(case, outcome)))
    assert not outcome.problems, (outcome, journey.codes, list(journey.rows()))
