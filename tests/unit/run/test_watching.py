"""A job that waits in a provider's queue is heard of again."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

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


class Said:
    """A desk that only remembers what was said at it."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.store = self

    def set_phase(self, *_: object) -> None:
        """Its store takes anything."""

    def say(self, kind: str, text: str, job: object) -> None:
        self.told.append(f"{kind}: {text}")


def test_a_job_whose_machine_is_taken_away_is_told_of_and_its_return_too() -> None:
    desk: Any = Said()
    job: Any = SimpleNamespace(id=1, kind="train")
    backend: Any = SimpleNamespace(name="far")
    away = "its machine was taken away"
    last, waits = None, False
    for phase, reason in (
        (Phase.STARTING, "it is being launched"),
        (Phase.RUNNING, ""),
        (Phase.STARTING, away),
        (Phase.UNKNOWN, ""),
        (Phase.RUNNING, ""),
        (Phase.UNKNOWN, ""),
        (Phase.RUNNING, ""),
    ):
        seen = Observation(phase, reason=reason)
        waits = watching._changed(desk, job, backend, seen, last, waits=waits)
        last = phase
    assert desk.told == [
        f"queued: train waits: {away}",
        "unknown: far does not answer; train is looked for",
        "back: train is running",
        "unknown: far does not answer; train is looked for",
        "back: far answers again: train is running",
    ]
