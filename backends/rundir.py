"""The run directory seen from outside: the names of its parts, and values from its files.

The runner writes these files, and a backend or a launcher reads them, perhaps through a slow
provider and perhaps half-way through a change of version: so unknown keys are passed over, and a
missing one has a plain default. docs/ARCHITECTURE.md has the format.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any

from backends.lease import Observation, Phase
from backends.offer import Money

STATE = PurePosixPath("state.json")
PLAN = PurePosixPath("plan.json")
MANIFEST = PurePosixPath("manifest.json")
LOCK = PurePosixPath("lock")
RUNNER = PurePosixPath("runner.py")
TEAM = PurePosixPath("team.py")
"""Beside the runner, where a job has several nodes."""
RUNNER_ERRORS = PurePosixPath("runner.err")
BUNDLE = PurePosixPath("bundle")
INPUTS = PurePosixPath("inputs")
OUTPUT = PurePosixPath("output")
LOGS = PurePosixPath("logs")
METRICS = PurePosixPath("metrics")
CONTROL = PurePosixPath("control")

TOP = (STATE, PLAN, MANIFEST, LOCK, RUNNER, TEAM, RUNNER_ERRORS, LOGS, METRICS, CONTROL)
"""What belongs to the runner: an input cannot be laid there."""


def log_segment(step: str, number: int) -> PurePosixPath:
    """Where segment `number` (from 1) of a step's log lies."""
    return LOGS / step / f"{number:06d}.log"


def metric_segment(number: int) -> PurePosixPath:
    """Where segment `number` (from 1) of the metrics lies."""
    return METRICS / f"{number:06d}.jsonl"


@dataclass(frozen=True)
class LogLine:
    """One line of a job's log. `seq` goes up by one through the whole job, over all steps."""

    seq: int
    time: datetime
    text: str


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint the runner has seen; `path` is relative to the run directory."""

    path: PurePosixPath
    complete: bool
    size_bytes: int


@dataclass(frozen=True)
class OutputFile:
    """A file the manifest vouches for."""

    path: PurePosixPath
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a job left, and its verdict."""

    job: str
    verdict: str
    files: tuple[OutputFile, ...]


def parse_state(content: bytes) -> dict[str, Any] | None:
    """The content of `state.json`; None when it is not (or not wholly) there."""
    return _object(content)


def parse_manifest(content: bytes) -> Manifest | None:
    """The content of `manifest.json`; None when it is not (or not wholly) there."""
    found = _object(content)
    if found is None:
        return None
    try:
        files = tuple(
            OutputFile(PurePosixPath(row["path"]), int(row["size"]), str(row["sha256"]))
            for row in found["files"]
        )
    except (KeyError, TypeError, ValueError):
        return None
    return Manifest(str(found.get("job", "")), str(found.get("verdict", "")), files)


def parse_line(raw: bytes) -> LogLine | None:
    """A stored log line (with or without its line end); None for one the runner did not write."""
    sequence, _, rest = raw.decode("utf-8", "replace").rstrip("\r\n").partition(" ")
    stamp, _, text = rest.partition(" ")
    if not (sequence.isascii() and sequence.isdigit()):
        return None
    try:
        time = datetime.fromisoformat(stamp)
    except ValueError:
        return None
    return LogLine(int(sequence), time if time.tzinfo else time.replace(tzinfo=UTC), text)


def checkpoints(state: Mapping[str, Any] | None) -> tuple[Checkpoint, ...]:
    """The checkpoints a state tells of, in its order."""
    found = []
    for row in (state or {}).get("checkpoints") or ():
        if isinstance(row, Mapping) and isinstance(row.get("path"), str):
            size = row.get("bytes")
            found.append(
                Checkpoint(
                    path=PurePosixPath(row["path"]),
                    complete=row.get("complete") is True,
                    size_bytes=size if isinstance(size, int) else 0,
                )
            )
    return tuple(found)


def phase(state: Mapping[str, Any] | None) -> Phase:
    """The phase a state claims; `UNKNOWN` when it says nothing that is known here."""
    try:
        return Phase(str((state or {}).get("phase")))
    except ValueError:
        return Phase.UNKNOWN


def observation(
    state: Mapping[str, Any] | None, *, alive: bool, cost: Money | None = None
) -> Observation:
    """What a state means, given whether its runner is known to live.

    A verdict is a verdict. Without one, a living runner is starting or running; of a dead one the
    job is lost. Who cannot tell whether the runner lives must not ask here but answer `UNKNOWN`.
    """
    claimed = phase(state)
    reason = str((state or {}).get("reason") or "")
    code = (state or {}).get("exit_code")
    if claimed.ended:
        exit_code = code if isinstance(code, int) else None
        return Observation(claimed, exit_code, reason, cost, state)
    if alive:
        living = Phase.STARTING if claimed is Phase.UNKNOWN else claimed
        return Observation(living, None, reason, cost, state)
    gone = "its runner is gone and left no verdict"
    return Observation(Phase.LOST, None, gone, cost, state)


def _object(content: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(content)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
