"""How fast files go is learnt from what is told while they do."""

from __future__ import annotations

from backends.protocol import silent
from launcher.run.uplink import LEAST_BYTES, Meter


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_bytes_and_the_time_they_took() -> None:
    clock = Clock()
    meter = Meter(silent, clock)
    for done in (0, LEAST_BYTES, 3 * LEAST_BYTES):
        meter("sending", done=done)
        clock.now += 2
    assert (meter.sent_bytes, meter.seconds) == (3 * LEAST_BYTES, 4.0)
    assert meter.told


def test_time_between_two_things_is_nobodys() -> None:
    clock = Clock()
    meter = Meter(silent, clock)
    meter("sending", done=0)
    meter("sending", done=LEAST_BYTES)
    clock.now += 60
    meter("making the environment")
    meter("sending a model", done=0)
    clock.now += 1
    meter("sending a model", done=LEAST_BYTES)
    assert (meter.sent_bytes, meter.seconds) == (2 * LEAST_BYTES, 1.0)


def test_a_few_bytes_tell_nothing() -> None:
    clock = Clock()
    meter = Meter(silent, clock)
    meter("sending", done=0)
    clock.now += 1
    meter("sending", done=LEAST_BYTES - 1)
    assert not meter.told


def test_what_is_told_is_passed_on() -> None:
    heard: list[tuple[str, int | None]] = []
    meter = Meter(lambda what, *, done=None, total=None: heard.append((what, done)))
    meter("sending", done=5)
    meter("starting")
    assert heard == [("sending", 5), ("starting", None)]
