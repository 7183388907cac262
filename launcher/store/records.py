"""Rows of the store as values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from backends.job import Files
from backends.lease import Lease, Phase
from backends.offer import Money


@dataclass(frozen=True)
class RunRecord:
    """One run: what the user named, with its recipe, its place and how it stands."""

    id: str
    name: str
    recipe: str
    backend: str
    output_dir: Path
    created_at: datetime
    ended_at: datetime | None
    phase: Phase


@dataclass(frozen=True)
class JobRecord:
    """One job of a run: one lease from start to end.

    created → intent (the provider is about to be asked) → launched → ended (a verdict is known)
    → pulled (its results are here, verified) → closed (let go of; nothing bills), or held (not let
    go of, as the user wished: it bills until somebody stops it).

    backend  where it runs, as the user types it; a run's jobs may be in several places
    stop_at  when somebody asked for its end, within `stop_grace`
    files    its run directory at the backend, as long as that holds it
    """

    id: int
    run_id: str
    kind: str
    name: str
    spec: str
    offer: str
    phase: Phase
    reason: str
    exit_code: int | None
    created_at: datetime
    intent_at: datetime | None
    launched_at: datetime | None
    ended_at: datetime | None
    pulled_at: datetime | None
    closed_at: datetime | None
    lease: Lease | None
    files: Files | None
    cost: Money | None
    backend: str
    held_at: datetime | None
    stop_at: datetime | None
    stop_grace: timedelta | None = None

    @property
    def open(self) -> bool:
        """Whether something is still to be done for it."""
        return self.closed_at is None and self.held_at is None

    @property
    def held(self) -> bool:
        """Whether it has ended, and what it ran on is kept as it is."""
        return self.closed_at is None and self.held_at is not None


@dataclass(frozen=True)
class Uplink:
    """How fast files went to a backend, and when that was measured."""

    bytes_per_second: float
    measured_at: datetime


@dataclass(frozen=True)
class Event:
    """Something a follower wants to know; `id` only grows."""

    id: int
    job_id: int | None
    at: datetime
    kind: str
    text: str
    data: Mapping[str, Any] = field(default_factory=dict)


def files_to_json(files: Files) -> str:
    """Files as text."""
    return json.dumps({"backend": files.backend, "id": files.id, "data": dict(files.data)})


def files_from_json(text: str) -> Files:
    """The reverse of `files_to_json`."""
    raw = json.loads(text)
    return Files(raw["backend"], raw["id"], raw["data"])


def lease_to_json(lease: Lease) -> str:
    """A lease as text."""
    return json.dumps(
        {
            "backend": lease.backend,
            "id": lease.id,
            "job": lease.job,
            "files": files_to_json(lease.files),
            "created_at": lease.created_at.isoformat(),
            "data": dict(lease.data),
        }
    )


def lease_from_json(text: str) -> Lease:
    """The reverse of `lease_to_json`."""
    raw = json.loads(text)
    return Lease(
        backend=raw["backend"],
        id=raw["id"],
        job=raw["job"],
        files=files_from_json(raw["files"]),
        created_at=datetime.fromisoformat(raw["created_at"]),
        data=raw["data"],
    )


def money_to_text(money: Money) -> str:
    """`12.34 USD`, exactly."""
    return f"{money.amount} {money.currency}"


def money_from_text(text: str) -> Money:
    """The reverse of `money_to_text`."""
    amount, currency = text.split(" ")
    return Money(Decimal(amount), currency)
