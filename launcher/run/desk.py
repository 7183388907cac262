"""What everybody needs who works on a run: its journal, its backends, a way to say something."""

from __future__ import annotations

from dataclasses import dataclass

from backends.protocol import Backend
from launcher.run.loaded import Backends
from launcher.run.spec import JobSpec, RunSpec, job_from_json
from launcher.store import JobRecord, RunRecord, Store


@dataclass(frozen=True)
class Desk:
    """A run that is being worked on."""

    store: Store
    run: RunRecord
    backends: Backends
    settled: RunSpec

    def backend(self, job: JobRecord) -> Backend:
        """Where a job runs."""
        return self.backends.of(job)

    def wanted(self, job: JobRecord) -> JobSpec:
        """What a job is to do."""
        return job_from_json(job.spec)

    def say(self, kind: str, text: str, job: JobRecord, **data: object) -> None:
        """Tell whoever follows."""
        self.store.say(self.run.id, kind, text, job_id=job.id, data=data)

    def stop_command(self) -> str:
        """What ends whatever still bills."""
        return f"ftlaunch stop {self.run.name}"


def counts(job: JobRecord) -> bool:
    """Whether the job's verdict is the run's: asking a model something does not change the run."""
    return job.kind != "inference"
