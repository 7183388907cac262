"""What runs that have ended still keep at a provider, where it is billed."""

from __future__ import annotations

from dataclasses import dataclass

from launcher.on_finish import bills
from launcher.store import JobRecord, RunRecord, Store


@dataclass(frozen=True)
class Remainder:
    """A run whose files are still at a provider."""

    run: RunRecord
    backend: str

    def sentence(self) -> str:
        """What bills."""
        return f"{self.run.name} keeps its files at {self.backend}, where storage is billed"

    def hint(self) -> str:
        """What ends it."""
        return f"end that with: ftlaunch rm {self.run.name}"


def still_billed(job: JobRecord) -> bool:
    """Whether a job that was let go of left files behind that cost money."""
    if job.closed_at is None or job.files is None:
        return False
    # Here, so that a list of runs need not wait for it: most keep nothing anywhere.
    from launcher.run.spec import offer_from_json

    return bills(offer_from_json(job.offer))


def remainders(store: Store, backend: str | None = None) -> list[Remainder]:
    """The runs that keep something, each once for each backend; at one backend if it is named.

    Two names of one backend (`skypilot`, `skypilot:aws`) count as the same.
    """
    found = {
        (job.run_id, job.backend): Remainder(store.run(job.run_id), job.backend)
        for job in store.kept_jobs()
        if still_billed(job) and backend in {None, job.backend, job.backend.partition(":")[0]}
    }
    return list(found.values())
