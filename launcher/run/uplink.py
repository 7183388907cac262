"""How fast files went to a backend, measured while they did."""

from __future__ import annotations

import time
from collections.abc import Callable

from backends.protocol import Progress

LEAST_BYTES = 1_000_000
"""Less than this tells of the way's delay, not of its width."""


class Meter:
    """A `Progress` that counts, and passes on what it is told.

    What is told of in bytes during a launch is what is being sent.
    """

    def __init__(self, then: Progress, clock: Callable[[], float] = time.monotonic) -> None:
        self._then = then
        self._clock = clock
        self._what = ""
        self._done = 0
        self._at = 0.0
        self.sent_bytes = 0
        self.seconds = 0.0

    def __call__(self, what: str, *, done: int | None = None, total: int | None = None) -> None:
        """See `Progress`."""
        if done is not None:
            now = self._clock()
            if what == self._what and done >= self._done:
                self.sent_bytes += done - self._done
                self.seconds += now - self._at
            self._what, self._done, self._at = what, done, now
        self._then(what, done=done, total=total)

    @property
    def told(self) -> bool:
        """Whether enough was sent to know something."""
        return self.sent_bytes >= LEAST_BYTES and self.seconds > 0
