"""The way to a job's port: a container that is not there yet is waited for."""

from __future__ import annotations

import itertools
import time

import pytest

from backends.errors import Unreachable
from backends.modal import door

DOOR = {"host": "there", "port": 1, "user": "root", "key": "k"}


def test_time_in_the_queue_is_no_patience_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "_PATIENCE_S", 0.1)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    looks = itertools.count()
    began = time.monotonic()

    def waits() -> bool:
        return time.monotonic() < began + 0.5

    def note() -> dict[str, object]:
        next(looks)
        return {} if waits() else {"door": DOOR}

    assert door._door(note, waits) == DOOR
    assert next(looks) > 1


def test_a_container_that_is_there_and_opens_no_door_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(door, "_PATIENCE_S", 0.1)
    with pytest.raises(Unreachable, match="has not opened its door"):
        door._door(dict, lambda: False)
