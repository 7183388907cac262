"""A fault at a call of a verb that looks: it says the truth, or that it does not know.

Apart from the runs: the job that is looked at holds the user's cluster as long as it lives, and
Slurm lets the next one wait.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from skypilot_faults.cases import PHASES, Case, Phase
from skypilot_faults.chosen import LOOKS, MARKS, row
from skypilot_faults.verbs import Verbs

pytestmark = MARKS


@pytest.mark.parametrize("case", LOOKS, ids=lambda case: case.id)
def test_nobody_guesses(
    verbs: Verbs, case: Case, record_property: Callable[[str, object], None]
) -> None:
    outcome = verbs.tried(case)
    record_property("skypilot fault", json.dumps(row(case, outcome)))
    assert not outcome.problems, outcome


@pytest.mark.parametrize("phase", [one for one in PHASES if one.way == "verb"], ids=lambda p: p.at)
def test_a_verb_without_a_fault_does_what_the_cases_say(verbs: Verbs, phase: Phase) -> None:
    before = verbs.way.passed()
    assert verbs.right(phase.at) == ""
    assert set(phase.calls) <= set(verbs.way.calls[before:])
