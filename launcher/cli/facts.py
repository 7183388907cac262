"""Facts about runs, for printing: as rows, as documents, as they stand now."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from backends.errors import FtlaunchError
from backends.job import Files
from backends.lease import Lease, Observation, Phase
from launcher.run import spent
from launcher.run.loaded import Backends
from launcher.store import JobRecord, RunRecord, Store


def find(store: Store, name: str | None) -> RunRecord:
    """The run of this name, or the last one."""
    return store.run(name) if name else store.last_run()


def row_of(store: Store, run: RunRecord) -> dict[str, Any]:
    """A run in a line: its open job as it stands now, if it has one, and all it has cost so far."""
    row = {
        "name": run.name,
        "id": run.id,
        "phase": run.phase.value,
        "job": "",
        "backend": run.backend,
        "created_at": run.created_at.isoformat(),
        "ended_at": run.ended_at.isoformat() if run.ended_at else None,
        "recipe": run.recipe,
        "output": str(run.output_dir),
    }
    every = store.jobs(run.id)
    jobs = [job for job in every if job.closed_at is None]
    # One that has ended may only be waited with, for a later job on the same machine.
    working = [job for job in jobs if job.open and job.ended_at is None]
    job = next(iter([*working, *(job for job in jobs if job.open), *jobs]), None)
    costs = {one.id: one.cost for one in every}
    if job is not None:
        now = now_of(job)
        row["job"] = job.kind
        row["phase"] = now.phase.value
        costs[job.id] = now.cost or job.cost
    row["cost"] = spent.total(costs.values()) or None
    return row


def now_of(job: JobRecord) -> Observation:
    """How an open job stands, asked of its backend; the store alone would repeat old news."""
    if job.ended_at is not None or job.lease is None:
        return Observation(job.phase, cost=job.cost)
    try:
        return Backends().of(job).observe(job.lease)
    except FtlaunchError:
        return Observation(Phase.UNKNOWN)


def describe(store: Store, run: RunRecord, *, bill: bool = False) -> dict[str, Any]:
    """A run and its jobs as data.

    bill  with what their providers say that they billed
    """
    from launcher.cli.order_view import told
    from launcher.plan_text import command_text
    from launcher.run.remaining import still_billed
    from launcher.run.spec import job_from_json

    facts = row_of(store, run)
    facts["jobs"] = [
        {
            "kind": job.kind,
            "name": job.name,
            "backend": job.backend,
            "phase": (now_of(job).phase if job.closed_at is None else job.phase).value,
            "reason": job.reason,
            "exit_code": job.exit_code,
            "launched_at": _iso(job.launched_at),
            "ended_at": _iso(job.ended_at),
            "pulled_at": _iso(job.pulled_at),
            "closed_at": _iso(job.closed_at),
            "cost": None if job.cost is None else str(job.cost),
            "files": None if job.files is None else job.files.id,
            "files_billed": still_billed(job),
            "steps": [
                {"name": step.name, "command": command_text(step.argv)}
                for step in job_from_json(job.spec).plan.steps
            ],
        }
        for job in store.jobs(run.id)
    ]
    facts["offers"] = told(store, run)
    if bill:
        for row, job in zip(facts["jobs"], store.jobs(run.id), strict=True):
            row["bill"], row["bill_unknown"] = _billed(job)
    return facts


def _billed(job: JobRecord) -> tuple[str | None, str]:
    """What the provider billed, if it says; else why it could not be asked."""
    begun = job.intent_at or job.launched_at
    if begun is None:
        return None, ""
    try:
        backend = Backends().of(job)
        files = job.files or Files(backend.name, job.name)
        # A bill comes when the lease is long closed: its name and its day are enough.
        lease = job.lease or Lease(backend.name, job.name, job.name, files, begun)
        found = backend.billed(lease)
    except FtlaunchError as error:
        return None, error.message
    return None if found is None else str(found), ""


def _iso(when: datetime | None) -> str | None:
    return None if when is None else when.isoformat()
