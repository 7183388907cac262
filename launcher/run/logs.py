"""Reading a job's log and metrics from wherever they are, in order, without gaps or doubles."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from backends.errors import Lost
from backends.job import Files
from backends.protocol import Backend


@dataclass(frozen=True)
class Line:
    """One line of a job's log. `seq` goes up by one through the whole job."""

    seq: int
    time: str
    step: str
    text: str


@dataclass
class _Place:
    """How far one chain of segments has been read."""

    segment: int = 1
    offset: int = 0
    tail: bytes = b""


class LogReader:
    """Reads what is new each time it is asked.

    step  read this step's log only
    """

    def __init__(self, backend: Backend, files: Files, *, step: str | None = None) -> None:
        self._backend = backend
        self._files = files
        self._only = step
        self._places: dict[str, _Place] = {}
        self._metrics = _Place()

    def lines(self, state: Mapping[str, Any]) -> Iterator[Line]:
        """Lines since the last call; `state` is the runner's, as just seen."""
        for step in state.get("steps", ()):
            name = str(step["name"])
            if self._only is not None and name != self._only:
                continue
            place = self._places.setdefault(name, _Place())
            for raw in self._new(place, f"logs/{name}/{{:06d}}.log", int(step.get("segments", 0))):
                yield parse(name, raw)

    def metrics(self, state: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Metrics since the last call."""
        count = int(state.get("metrics_segments", 0))
        for raw in self._new(self._metrics, "metrics/{:06d}.jsonl", count):
            try:
                yield json.loads(raw)
            except ValueError:
                continue

    def _new(self, place: _Place, pattern: str, segments: int) -> Iterator[bytes]:
        while place.segment <= segments:
            path = PurePosixPath(pattern.format(place.segment))
            try:
                for chunk in self._backend.read(
                    self._files, path, offset=place.offset, follow=False
                ):
                    place.offset += len(chunk)
                    *whole, place.tail = (place.tail + chunk).split(b"\n")
                    yield from whole
            except Lost:
                return
            if place.segment == segments:
                return
            place.segment += 1
            place.offset = 0


def lines_here(home: Path, job_id: int, *, step: str | None = None) -> list[Line]:
    """A job's log as it was pulled to `home`, in order; empty when it was not."""
    found = []
    for path in (home / "logs").glob(f"*-{job_id}.log"):
        name = path.stem.rpartition("-")[0]
        if step is None or name == step:
            found += [parse(name, raw) for raw in path.read_bytes().splitlines()]
    return sorted(found, key=lambda line: line.seq)


def parse(step: str, raw: bytes) -> Line:
    """A stored line as a value; a line that is none of ours is passed on whole."""
    text = raw.decode("utf-8", "replace")
    seq, _, rest = text.partition(" ")
    time, _, said = rest.partition(" ")
    if not seq.isdigit():
        return Line(-1, "", step, text)
    return Line(int(seq), time, step, said)
