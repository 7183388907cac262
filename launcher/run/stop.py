"""Stopping a run so that nothing is lost: a checkpoint, its pull, and a confirmed end."""

from __future__ import annotations

import time
from datetime import timedelta

from backends.errors import MayStillBill
from backends.lease import Phase, Signal
from backends.protocol import Backend
from launcher.run import conductor
from launcher.store import JobRecord, RunRecord, Store

MARGIN = timedelta(minutes=2)
"""What a kill, a pull and a release may take after the grace is over."""


def stop(store: Store, run: RunRecord, backend: Backend, *, grace: timedelta) -> str:
    """End the run's open jobs and wait for the end; returns a sentence for a person.

    Raises MayStillBill when the end is not confirmed.
    """
    open_jobs = [job for job in store.jobs(run.id) if job.closed_at is None]
    if not open_jobs:
        return f"{run.name} has ended already: {run.phase}"
    for job in reversed(open_jobs):
        _end(store, job, backend, grace)
    conductor.start(run.id)
    deadline = time.monotonic() + (grace + MARGIN).total_seconds()
    while any(job.closed_at is None for job in store.jobs(run.id)):
        if time.monotonic() > deadline:
            raise MayStillBill(
                f"{run.name} has not confirmed its end",
                hint=f"look with: ftlaunch inspect {run.name}; kill it with: ftlaunch stop --now "
                f"{run.name}",
            )
        time.sleep(0.2)
        for job in store.jobs(run.id):
            # A launch that was under way when the stop was asked for has its lease by now.
            if job.closed_at is None and job.ended_at is None:
                _end(store, job, backend, grace)
    now = store.run(run.id)
    return f"{now.name}: {now.phase}; results are in {now.output_dir}"


def _end(store: Store, job: JobRecord, backend: Backend, grace: timedelta) -> None:
    if job.ended_at is not None:
        return
    if job.intent_at is None:
        store.mark_ended(
            job.id, Phase.STOPPED, exit_code=None, reason="stopped before it began", cost=None
        )
    elif job.lease is not None and job.launched_at is not None:
        backend.signal(job.lease, Signal.STOP, grace=grace)
