"""The backends of a run's jobs, each loaded once, when it is first needed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from backends.errors import FtlaunchError
from backends.offer import Need, Offer
from backends.protocol import Backend
from backends.registry import load
from launcher import places
from launcher.store import JobRecord

_MINUTE_S = 60.0


class Backends:
    """Backends by the name the user types; jobs of one run may be on several."""

    def __init__(self, state_dir: Path | None = None) -> None:
        self._state_dir = state_dir
        self._loaded: dict[str, Backend] = {}
        self._offers: dict[tuple[str, Need], tuple[float, Sequence[Offer] | FtlaunchError]] = {}

    def named(self, spec: str) -> Backend:
        """The backend `NAME` or `NAME:DETAIL`. Raises BadInput when there is none."""
        if spec not in self._loaded:
            folder = self._state_dir or places.backends_dir()
            self._loaded[spec] = load(spec, state_dir=folder)
        return self._loaded[spec]

    def offers(self, spec: str, need: Need) -> Sequence[Offer]:
        """What a backend has now, or had within the last minute: it is asked no more often.

        Raises what `Backend.offers` raises when live, also for a minute.
        """
        asked_at, found = self._offers.get((spec, need), (0.0, None))
        if found is None or time.monotonic() - asked_at > _MINUTE_S:
            try:
                found = self.named(spec).offers(need, live=True)
            except FtlaunchError as error:
                found = error
            self._offers[spec, need] = (time.monotonic(), found)
        if isinstance(found, FtlaunchError):
            raise found
        return found

    def of(self, job: JobRecord) -> Backend:
        """The backend that a job is on."""
        return self.named(job.backend)
