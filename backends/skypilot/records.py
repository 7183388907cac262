"""What is known of clusters and the jobs on them: on disk before SkyPilot is asked.

One file for each cluster, by its name, which is also the tag it is found by.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Any

from backends import notes
from backends.notes import Claims


class Held(StrEnum):
    """How a cluster stands, as far as was last known."""

    ASKED = "asked"
    """It may exist under its name; its request may still be at work."""
    UP = "up"
    ENDING = "ending"
    GONE = "gone"


class Stage(StrEnum):
    """How far a job on a cluster has come."""

    LAYING = "laying"
    STARTED = "started"
    RELEASED = "released"


@dataclass(frozen=True)
class JobNote:
    """A job on a cluster.

    lease    the id of its lease, the same for ever
    request  a digest of its commands: a name is not given two different jobs
    kept     its files are wanted after the release
    verdict  the last observation, once it was one that does not change
    before   what the cluster had cost when the job came to it
    number   SkyPilot's own, of the job on its cluster
    nodes    how many of the cluster's it runs on
    brought  earlier jobs that were brought from a bucket for it
    """

    lease: str
    created_at: str
    request: str = ""
    stage: Stage = Stage.LAYING
    kept: bool = False
    verdict: Mapping[str, Any] | None = None
    before: str = "0"
    number: int | None = None
    nodes: int = 1
    brought: tuple[str, ...] = ()

    @property
    def kept_or_open(self) -> bool:
        """Nobody has taken its files away."""
        return self.stage is not Stage.RELEASED or self.kept


@dataclass(frozen=True)
class Cluster:
    """A cluster, or what it left.

    name     what SkyPilot calls it
    price    dollars an hour; empty where nobody here knows
    ours     made by us, and ended by us; else the user's own, on which jobs are guests
    server   the API server that it was asked of: no other one says whether it is there
    request  the id of the request that makes it, once it is known
    cloud    SkyPilot's name of the cloud; `region` is the cluster's name where that is Slurm
    root     the folder on it that is ours; its run directories are below
    nodes    how many machines it is; `price` is for all of them
    since    when it began to bill; spent: what it had cost before that
    managed  it is one of SkyPilot's managed jobs, whose clusters come and go; there is one job
    store    the address of the bucket where that job's run directory is kept; empty: on a disk
    """

    name: str
    created_at: str
    price: str = "0"
    ours: bool = True
    server: str = ""
    request: str = ""
    cloud: str = ""
    region: str = ""
    root: str = ""
    nodes: int = 1
    held: Held = Held.ASKED
    since: str | None = None
    spent: str = "0"
    managed: bool = False
    store: str = ""
    jobs: Mapping[str, JobNote] = field(default_factory=dict)

    @property
    def shared(self) -> bool:
        """Its run directories are on a disk that outlives it."""
        return self.cloud == SLURM

    def open_jobs(self) -> list[str]:
        """The jobs that nobody has released."""
        return [name for name, note in self.jobs.items() if note.stage is not Stage.RELEASED]

    def noted(self, job: str, **changes: Any) -> Cluster:
        """The same, with something else known of one job."""
        return replace(self, jobs={**self.jobs, job: replace(self.jobs[job], **changes)})

    def without(self, job: str) -> Cluster:
        """The same, without a job."""
        return replace(self, jobs={name: note for name, note in self.jobs.items() if name != job})

    def cost(self, now: datetime) -> Decimal:
        """What it has cost until now, by its price and the clock."""
        spent = Decimal(self.spent)
        if self.since is not None:
            seconds = max(0.0, (now - datetime.fromisoformat(self.since)).total_seconds())
            spent += Decimal(self.price or 0) * Decimal(seconds) / 3600
        return spent


SLURM = "Slurm"


class Records(Claims):
    """The notes of one state directory. Every method may be repeated after a crash in it."""

    def __init__(self, root: Path) -> None:
        super().__init__(root / "locks")
        self.root = root
        self._clusters = root / "clusters"

    def all(self) -> list[Cluster]:
        """Every cluster there is or was, oldest first."""
        try:
            paths = sorted(self._clusters.glob("[!.]*.json"))
        except OSError:
            return []
        found = [one for one in map(_read, paths) if one is not None]
        return sorted(found, key=lambda one: one.created_at)

    def get(self, name: str) -> Cluster | None:
        """What is known of a cluster."""
        return _read(self._clusters / f"{name}.json")

    def of_job(self, job: str) -> Cluster | None:
        """The cluster that a job is or was on."""
        return next((one for one in reversed(self.all()) if job in one.jobs), None)

    def save(self, cluster: Cluster) -> Cluster:
        """Write a record. A verdict that somebody noted meanwhile stays."""
        with self.claim(f"{cluster.name}.write"):
            now = self.get(cluster.name)
            for job, note in ({} if now is None else now.jobs).items():
                if note.verdict is not None and job in cluster.jobs:
                    cluster = cluster.noted(job, verdict=note.verdict)
            self._write(cluster)
        return cluster

    def try_save(self, cluster: Cluster) -> Cluster:
        """Write a record if the disk takes it: what ends a bill does not wait for room on it."""
        with contextlib.suppress(OSError):
            return self.save(cluster)
        return cluster

    def note_verdict(self, name: str, job: str, verdict: Mapping[str, Any]) -> None:
        """Remember a job's verdict, and change nothing else of the record."""
        with self.claim(f"{name}.write"):
            now = self.get(name)
            if now is not None and job in now.jobs and now.jobs[job].verdict is None:
                self._write(now.noted(job, verdict=verdict))

    def _write(self, cluster: Cluster) -> None:
        text = json.dumps(asdict(cluster), indent=1)
        notes.write(self._clusters / f"{cluster.name}.json", text)

    def forget(self, name: str) -> None:
        """Remove the record of a cluster that is gone and of which nothing is wanted."""
        (self._clusters / f"{name}.json").unlink(missing_ok=True)

    def computer(self) -> str:
        """What tells this state directory from every other one; made once."""
        path = self.root / "computer"
        with contextlib.suppress(FileNotFoundError):
            return path.read_text(encoding="ascii")
        with self.claim("computer"):
            if not path.exists():
                notes.write(path, os.urandom(8).hex())
        return path.read_text(encoding="ascii")


def _read(path: Path) -> Cluster | None:
    try:
        raw: dict[str, Any] = json.loads(path.read_bytes())
        jobs = {
            name: JobNote(
                **{
                    **_known(JobNote, note),
                    "stage": Stage(note["stage"]),
                    "brought": tuple(note.get("brought", ())),
                }
            )
            for name, note in raw["jobs"].items()
        }
        return Cluster(**{**_known(Cluster, raw), "held": Held(raw["held"]), "jobs": jobs})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _known(kind: Any, raw: Mapping[str, Any]) -> dict[str, Any]:
    names = {one.name for one in fields(kind)}
    return {name: value for name, value in raw.items() if name in names}
