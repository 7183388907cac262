"""The backends of a run's jobs, each loaded once, when it is first needed."""

from __future__ import annotations

from pathlib import Path

from backends.protocol import Backend
from backends.registry import load
from launcher import places
from launcher.store import JobRecord


class Backends:
    """Backends by the name the user types; jobs of one run may be on several."""

    def __init__(self, state_dir: Path | None = None) -> None:
        self._state_dir = state_dir
        self._loaded: dict[str, Backend] = {}

    def named(self, spec: str) -> Backend:
        """The backend `NAME` or `NAME:DETAIL`. Raises BadInput when there is none."""
        if spec not in self._loaded:
            folder = self._state_dir or places.backends_dir()
            self._loaded[spec] = load(spec, state_dir=folder)
        return self._loaded[spec]

    def of(self, job: JobRecord) -> Backend:
        """The backend that a job is on."""
        return self.named(job.backend)
