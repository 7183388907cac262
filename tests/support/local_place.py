"""The local backend with jobs of real processes."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path, PurePosixPath

from backends.job import Job, LocalFile, LocalTree
from backends.lease import Lease, Observation
from backends.local import Local
from backends.offer import FREE, Offer
from backends.plan import Plan, Step
from backends.protocol import Options, silent

PYTHON = (sys.executable, "-S", "-E", "-c")
OFFER = Offer("local", None, 0, FREE)


@dataclass
class Place:
    """A state folder, a folder for files, and the local backend."""

    folder: Path
    state: Path
    leases: list[Lease] = field(default_factory=list)

    @property
    def backend(self) -> Local:
        return Local(Options(self.state, environ=dict(os.environ)))

    def file(self, name: str, content: bytes, at: str | None = None) -> LocalFile:
        here = self.folder / name
        here.parent.mkdir(parents=True, exist_ok=True)
        here.write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        return LocalFile(here, PurePosixPath(at or f"bundle/{name}"), len(content), digest)

    def job(self, program: str = "", name: str = "job", **changes: object) -> Job:
        plan = Plan(steps=(Step("only", (*PYTHON, program)),))
        return Job(name=name, plan=plan, deadline=timedelta(minutes=5), **changes)  # type: ignore[arg-type]

    def with_files(self, *files: LocalFile) -> Job:
        return self.job(inputs=(LocalTree(files),))

    def launch(self, job: Job) -> Lease:
        lease = self.backend.launch(job, OFFER, on_lease=self.leases.append, progress=silent)
        self.leases.append(lease)
        return lease

    def run(self, job: Job) -> Lease:
        lease = self.launch(job)
        until(lambda: self.backend.observe(lease).phase.ended)
        return lease

    def home(self, job: Job | Lease) -> Path:
        name = job.name if isinstance(job, Job) else job.job
        return self.state / "runs" / name

    def seen(self, lease: Lease) -> Observation:
        return self.backend.observe(lease)


def until(true: Callable[[], object]) -> None:
    """Wait for something that must come."""
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)
