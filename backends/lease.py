"""What a backend gives back: a lease, and what can be seen of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from backends.job import Files
from backends.offer import Money


@dataclass(frozen=True)
class Lease:
    """Something held at a provider: it bills, and it ends.

    id     the provider's own id
    job    the job's name, which is also the tag it is found by
    files  the job's run directory, readable while the lease lives and, if kept, after it
    data   the backend's own note; strings only, so that it can be stored
    """

    backend: str
    id: str
    job: str
    files: Files
    created_at: datetime
    data: Mapping[str, str] = field(default_factory=dict)


class Phase(StrEnum):
    """Where a job stands. `UNKNOWN` is an answer: it is not "gone"."""

    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"
    EXPIRED = "expired"
    """Its deadline, or a step's time-out, ended it."""
    LOST = "lost"
    """It ended without a verdict: killed, or its machine is gone."""
    UNKNOWN = "unknown"

    @property
    def ended(self) -> bool:
        """True when nothing more will happen."""
        return self in _ENDED


_ENDED = frozenset({Phase.SUCCEEDED, Phase.FAILED, Phase.STOPPED, Phase.EXPIRED, Phase.LOST})


@dataclass(frozen=True)
class Observation:
    """A look at a lease.

    exit_code  of the step that decided the verdict (128 + n for signal n); None before the end
    reason     one phrase for a person: why it is in this phase
    cost       what it has cost so far, as well as the backend knows; None when it cannot know
    state      the runner's `state.json` as last seen, or None
    """

    phase: Phase
    exit_code: int | None = None
    reason: str = ""
    cost: Money | None = None
    state: Mapping[str, Any] | None = None


class Signal(StrEnum):
    """What can be asked of a running job."""

    STOP = "stop"
    CHECKPOINT = "checkpoint"


class Keep(StrEnum):
    """What a release leaves behind."""

    FILES = "files"
    NOTHING = "nothing"


@dataclass(frozen=True)
class Address:
    """Where a tunnel can be reached: on this machine only."""

    host: str
    port: int


@dataclass(frozen=True)
class Finding:
    """One line of `check` or `clean`: what was looked at, whether it is well, what to do if not.

    unset  nothing is wrong, but nobody has set this up: there is no SDK, or no account's key
    bills  what is not well may cost money
    """

    subject: str
    ok: bool
    detail: str = ""
    hint: str = ""
    unset: bool = False
    bills: bool = False
