"""A backend that answers slowly is asked less often."""

from __future__ import annotations

from launcher.run.pace import MOST_S, pause


def test_ten_times_what_a_look_takes_within_bounds() -> None:
    assert pause(0.001, least_s=0.25) == 0.25
    assert pause(0.1, least_s=0.25) == 1.0
    assert pause(3.0, least_s=0.25) == MOST_S
