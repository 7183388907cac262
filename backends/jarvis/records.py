"""What is known of machines and the jobs on them: on disk before the provider is asked.

One file for each machine, written by rename. The machine's id changes whenever it is woken; its
record does not. `Held` and `Stage` of a record say what was begun, so that whoever comes after a
crash knows what to look for.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Any

from backends import notes
from backends.lease import Phase
from backends.notes import Claims


class Held(StrEnum):
    """How a machine stands, as far as was last known."""

    CREATING = "creating"
    """Asked for, or about to be: it may exist under its name without an id being known."""
    RUNNING = "running"
    PAUSING = "pausing"
    PAUSED = "paused"
    RESUMING = "resuming"
    """Being woken: it may exist under its name with another id."""
    ENDING = "ending"
    """To be destroyed; it may still bill."""
    GONE = "gone"


class Stage(StrEnum):
    """How far a job on a machine has come."""

    LAYING = "laying"
    STARTED = "started"
    RELEASED = "released"


@dataclass(frozen=True)
class JobNote:
    """A job on a machine.

    lease    the id of its lease, the same for ever
    request  a digest of its commands: a name is not given two different jobs
    kept     its files are wanted after the release
    verdict  the last observation, once it was one that does not change
    before   what the machine had cost when the job came to it
    linger   seconds after the end when the machine may let go of itself; None: never
    links    where files of earlier jobs and caches are seen, which no listing names; None: unknown
    """

    lease: str
    created_at: str
    request: str = ""
    stage: Stage = Stage.LAYING
    kept: bool = False
    verdict: Mapping[str, Any] | None = None
    before: str = "0"
    linger: float | None = None
    links: Sequence[str] | None = None

    @property
    def lost(self) -> bool:
        """Nobody works on it any more, and it left no verdict."""
        return self.verdict is not None and self.verdict.get("phase") == Phase.LOST

    def may_link(self, path: PurePosixPath) -> bool:
        """Whether a file of that name may be there although it is not listed."""
        if self.links is None:
            return True
        return any(path.is_relative_to(link) for link in self.links)


@dataclass(frozen=True)
class Box:
    """A machine, and the disk that outlives its pauses.

    key       the record's own name
    name      what the machine is called at the provider; the only tag there is
    machine   its id there, while one is known
    price     of one hour of running, and `disk_price` of one hour of being
    since     when it last began to run; spent: what it had cost before that
    secret    the private SSH key it accepts
    ssh       how it is reached while it runs: USER@HOST:PORT
    """

    key: str
    name: str
    kind: str
    region: str
    template: str
    disk_gib: int
    created_at: str
    gpu: str | None = None
    count: int = 1
    spot: bool = False
    price: str = "0"
    disk_price: str = "0"
    currency: str = "USD"
    machine: int | None = None
    held: Held = Held.CREATING
    since: str | None = None
    spent: str = "0"
    secret: str = ""
    ssh: str = ""
    filesystem: int | None = None
    jobs: Mapping[str, JobNote] = field(default_factory=dict)

    @property
    def living(self) -> bool:
        """It may bill for more than its disk."""
        return self.held not in {Held.PAUSED, Held.GONE}

    @property
    def used(self) -> bool:
        """It runs, and for a job that nobody has released: not only because somebody looks."""
        return self.held is Held.RUNNING and bool(self.open_jobs())

    @property
    def roused(self) -> bool:
        """It may run, and nobody needs it to: whoever woke it, or paused it, may have died."""
        moving = {Held.RUNNING, Held.PAUSING, Held.RESUMING}
        return self.held in moving and not self.open_jobs() and bool(self.kept_jobs())

    def open_jobs(self) -> list[str]:
        """The jobs that nobody has released."""
        return [name for name, note in self.jobs.items() if note.stage is not Stage.RELEASED]

    def awaited_jobs(self) -> list[str]:
        """The open jobs for which the machine must be up, if it is: those not known to be lost."""
        return [name for name in self.open_jobs() if not self.jobs[name].lost]

    def kept_jobs(self) -> list[str]:
        """The released jobs whose files are wanted."""
        return [n for n, note in self.jobs.items() if note.stage is Stage.RELEASED and note.kept]

    def noted(self, job: str, **changes: Any) -> Box:
        """The same, with something else known of one job."""
        return replace(self, jobs={**self.jobs, job: replace(self.jobs[job], **changes)})

    def without(self, job: str) -> Box:
        """The same, without a job."""
        return replace(self, jobs={name: note for name, note in self.jobs.items() if name != job})

    def cost(self, now: datetime) -> Decimal:
        """What it has cost until now, by its price and the clock."""
        spent = Decimal(self.spent)
        if self.since is not None:
            hours = Decimal(max(0.0, (now - datetime.fromisoformat(self.since)).total_seconds()))
            spent += Decimal(self.price) * hours / 3600
        return spent


class Records(Claims):
    """The notes of one state directory. Every method may be repeated after a crash in it."""

    def __init__(self, root: Path) -> None:
        super().__init__(root / "locks")
        self.root = root
        self._boxes = root / "machines"

    def all(self) -> list[Box]:
        """Every machine there is or was, oldest first; those that are gone only while noted."""
        try:
            paths = sorted(self._boxes.glob("[!.]*.json"))
        except OSError:
            return []
        found = [box for box in map(_read, paths) if box is not None]
        return sorted(found, key=lambda box: box.created_at)

    def box(self, key: str) -> Box | None:
        """One machine's record."""
        return _read(self._boxes / f"{key}.json")

    def of_job(self, job: str) -> Box | None:
        """The machine that a job is or was on."""
        return next((box for box in reversed(self.all()) if job in box.jobs), None)

    def save(self, box: Box) -> Box:
        """Write a record, so that it is there after a power cut as well.

        A verdict that somebody noted meanwhile stays: who looks does not wait for who works.
        """
        with self._writing(box.key):
            now = self.box(box.key)
            for job, note in ({} if now is None else now.jobs).items():
                if note.verdict is not None and job in box.jobs:
                    box = box.noted(job, verdict=note.verdict)
            return self._write(box)

    def try_save(self, box: Box) -> Box:
        """Write a record if the disk takes it: what ends a bill does not wait for room on it."""
        with contextlib.suppress(OSError):
            return self.save(box)
        return box

    def note_verdict(self, key: str, job: str, verdict: Mapping[str, Any]) -> None:
        """Remember a job's verdict, and change nothing else of the record."""
        with self._writing(key):
            now = self.box(key)
            if now is not None and job in now.jobs and now.jobs[job].verdict is None:
                self._write(now.noted(job, verdict=verdict))

    def _writing(self, key: str) -> contextlib.AbstractContextManager[None]:
        """Held for the moment of writing; a claim is held for as long as the work takes."""
        return self.claim(f"{key}.write")

    def _write(self, box: Box) -> Box:
        notes.write(self._boxes / f"{box.key}.json", json.dumps(asdict(box), indent=1))
        return box

    def forget(self, box: Box) -> None:
        """Remove the record of a machine that is gone and of which nothing is wanted."""
        (self._boxes / f"{box.key}.json").unlink(missing_ok=True)

    def computer(self) -> str:
        """What tells this state directory from every other one; made once."""
        path = self.root / "computer"
        with contextlib.suppress(FileNotFoundError):
            return path.read_text(encoding="ascii")
        with self.claim("computer"):
            if not path.exists():
                partial = path.with_name(".computer")
                partial.write_text(os.urandom(8).hex(), encoding="ascii")
                partial.replace(path)
        return path.read_text(encoding="ascii")


def _read(path: Path) -> Box | None:
    try:
        raw: dict[str, Any] = json.loads(path.read_bytes())
        jobs = {
            name: JobNote(**{**_known(JobNote, note), "stage": Stage(note["stage"])})
            for name, note in raw["jobs"].items()
        }
        return Box(**{**_known(Box, raw), "held": Held(raw["held"]), "jobs": jobs})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _known(kind: Any, raw: Mapping[str, Any]) -> dict[str, Any]:
    names = {one.name for one in fields(kind)}
    return {name: value for name, value in raw.items() if name in names}
