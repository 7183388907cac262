"""What goes to one worker together."""

from __future__ import annotations

from grouping import SKYPILOT, group


def test_all_of_skypilot_is_one_group() -> None:
    for one in (
        "tests/conformance/test_skypilot.py::TestSkyPilot::test_phases",
        "tests/faults/skypilot/test_faults.py::test_nobody_guesses[a::b]",
        "tests/e2e/test_skypilot_nodes.py::test_two",
    ):
        assert group(one) == SKYPILOT


def test_a_story_stays_together_and_others_do_not() -> None:
    assert group("tests/e2e/test_wheel.py::test_a[x]") == group("tests/e2e/test_wheel.py::test_b")
    one, other = "tests/conformance/test_local.py::T::a", "tests/conformance/test_local.py::T::b"
    assert group(one) != group(other)
