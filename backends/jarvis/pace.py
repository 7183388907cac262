"""How long to wait for a provider that is slow, late and now and then silent."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta

VARIABLE = "FTLAUNCH_PACE"
"""How many times quicker than the real one the provider is: for a loopback provider."""


@dataclass(frozen=True)
class Pace:
    """The patience for each thing that takes its time, at the real provider.

    boot     from the request to "Running"; the SDK's own limit is ten minutes
    ssh      from "Running" to the first command; a minute has been seen
    lag      how long a machine that was made may be missing from the list
    end      from the request to destroy or pause to its confirmation
    """

    factor: float = 1.0
    boot: timedelta = timedelta(minutes=15)
    ssh: timedelta = timedelta(minutes=4)
    lag: timedelta = timedelta(seconds=20)
    end: timedelta = timedelta(minutes=3)

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Pace:
        """The real one, or a quicker one where the environment says so."""
        try:
            factor = max(1.0, float(environ.get(VARIABLE, "1")))
        except ValueError:
            factor = 1.0
        real = cls()
        # What cannot be hurried is the work of this machine: never less than some seconds.
        return cls(
            factor=factor,
            boot=max(real.boot / factor, timedelta(seconds=20)),
            ssh=max(real.ssh / factor, timedelta(seconds=15)),
            lag=max(real.lag / factor, timedelta(seconds=1)),
            end=max(real.end / factor, timedelta(seconds=10)),
        )

    def ticks(
        self, patience: timedelta, *, sleep: Callable[[float], None] = time.sleep
    ) -> Iterator[None]:
        """Again and again while patience lasts: often at first, then every few seconds."""
        end = time.monotonic() + patience.total_seconds()
        pause = 0.25
        while True:
            yield
            if time.monotonic() >= end:
                return
            sleep(min(pause, 5.0) / self.factor if self.factor > 1 else min(pause, 5.0))
            pause *= 1.5
