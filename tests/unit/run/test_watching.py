"""A job that waits in a provider's queue is heard of again."""

from __future__ import annotations

from backends.lease import Observation, Phase
from launcher.run import watching

WAITS = Observation(Phase.QUEUED, reason="nothing is free")


def test_the_longer_it_waits_the_more_seldom_it_is_told() -> None:
    now = [0.0]
    queue = watching._Queue(clock=lambda: now[0])
    told = []
    for minute in range(61):
        now[0] = 60.0 * minute
        if queue.is_worth_a_word(WAITS):
            told.append(minute)
    assert told == [2, 4, 8, 16, 32]


def test_a_new_wait_begins_anew() -> None:
    now = [0.0]
    queue = watching._Queue(clock=lambda: now[0])
    assert not queue.is_worth_a_word(WAITS)
    now[0] = 130.0
    assert queue.is_worth_a_word(WAITS)
    assert not queue.is_worth_a_word(Observation(Phase.RUNNING))
    now[0] = 140.0
    assert not queue.is_worth_a_word(WAITS)
    now[0] = 200.0
    assert not queue.is_worth_a_word(WAITS)
