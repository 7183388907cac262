"""The provider's time, which may run faster than ours, and what it has to do when."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field

DOZE_S = 0.25
"""How often the provider looks after what grows by itself (money), in real seconds."""


@dataclass
class Clock:
    """Provider seconds since it was opened: `speed` of them pass in one real second.

    The monotonic clock of a machine is one for all its processes, so a test and the server agree.
    """

    speed: float
    opened: float = field(default_factory=time.monotonic)

    def now(self) -> float:
        """Provider seconds since the start."""
        return (time.monotonic() - self.opened) * self.speed

    def skip(self, seconds: float) -> None:
        """Let so many provider seconds be over."""
        self.opened -= seconds / self.speed

    def real(self, seconds: float) -> float:
        """How long so many provider seconds take here."""
        return seconds / self.speed


class Agenda:
    """One thread that does each thing at its provider time, under the lock of all."""

    def __init__(self, clock: Clock, lock: threading.RLock, often: Callable[[], None]) -> None:
        self._clock = clock
        self._wake = threading.Condition(lock)
        self._often = often
        self._entries: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._over = False
        self._thread = threading.Thread(target=self._work, name="agenda", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Do nothing more; returns when the thread has ended."""
        with self._wake:
            self._over = True
            self._wake.notify_all()
        self._thread.join()

    def skip(self, seconds: float) -> None:
        """Let time pass at once, and do what was to be done in it."""
        with self._wake:
            self._clock.skip(seconds)
            self._wake.notify_all()

    def after(self, seconds: float, do: Callable[[], None]) -> None:
        """Do it so many provider seconds from now."""
        with self._wake:
            entry = (self._clock.now() + seconds, next(self._numbers), do)
            heapq.heappush(self._entries, entry)
            self._wake.notify_all()

    def _work(self) -> None:
        with self._wake:
            while not self._over:
                while self._entries and self._entries[0][0] <= self._clock.now():
                    _do(heapq.heappop(self._entries)[2])
                _do(self._often)
                pause = DOZE_S
                if self._entries:
                    due = self._clock.real(self._entries[0][0] - self._clock.now())
                    pause = max(0.0, min(pause, due))
                self._wake.wait(pause)


def _do(what: Callable[[], None]) -> None:
    """One thing that fails must not keep the others from being done; `Cloud.close` tells."""
    try:
        what()
    except Exception:  # noqa: BLE001
        traceback.print_exc()
