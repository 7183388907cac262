"""The fault run finds what it is there to find: clients that make the old mistakes."""

from __future__ import annotations

import pytest
from jarvis_faults.cases import Case, every
from jarvis_faults.outcome import Try

pytestmark = [pytest.mark.faults, pytest.mark.timeout(400)]


def the(phase: str, call: str, fault: str) -> Case:
    (found,) = [case for case in every() if case.triple == (call, fault, phase)]
    return found


def test_a_machine_whose_create_went_unanswered_is_found_out(attempt: Try) -> None:
    case = the("launch", "create", "done, then dropped")
    _, outcome = attempt(case, careless="takes no answer for no")
    assert [text for text in outcome.leaked if text.startswith("machine ")], outcome
    _, outcome = attempt(case)
    assert not outcome.problems, outcome


def test_a_machine_whose_destroy_was_refused_is_found_out(attempt: Try) -> None:
    case = the("release: destroy", "destroy", "500")
    _, outcome = attempt(case, careless="takes accepted for done")
    assert any("bills a GPU" in text for text in outcome.leaked), outcome
    _, outcome = attempt(case)
    assert not outcome.problems, outcome


def test_results_that_were_not_fetched_are_found_out(attempt: Try) -> None:
    case = the("fetch", "ssh", "no ssh")
    _, outcome = attempt(case, careless="believes that it has pulled")
    assert outcome.lost, outcome
    _, outcome = attempt(case)
    assert not outcome.problems, outcome


def test_a_fault_that_met_nothing_proves_nothing(attempt: Try) -> None:
    _, outcome = attempt(the("release: pause", "pause", "500"), way="train")
    assert outcome.problems == ["the fault met nothing"]
