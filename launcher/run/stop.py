"""Stopping a run so that nothing is lost: a checkpoint, its pull, and a confirmed end."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from datetime import timedelta

from backends.errors import CredentialsMissing, FtlaunchError, MayStillBill
from backends.lease import Phase, Signal
from launcher.run import conductor, further
from launcher.run.loaded import Backends
from launcher.store import JobRecord, RunRecord, Store

MARGIN = timedelta(minutes=2)
"""What a kill, a pull and a release may take after the grace is over."""

_DENIALS = 5
"""Answers in a row that the account's key is not accepted, until that is believed."""


def stop(store: Store, run: RunRecord, backends: Backends, *, grace: timedelta) -> str:
    """End the run's open jobs and wait for the end; returns a sentence for a person.

    Raises MayStillBill when the end is not confirmed, or when the conductor says that it needs a
    person.
    """
    open_jobs = [job for job in store.jobs(run.id) if job.closed_at is None]
    if not open_jobs:
        return f"{run.name} has ended already: {run.phase}"
    after = further.last_event(store, run)
    for job in reversed(open_jobs):
        store.ask_stop(job.id, grace)
        _told(store, job, backends, grace)
    conductor.start(run.id)
    denied = 0
    deadline = time.monotonic() + (grace + MARGIN).total_seconds()
    for look in itertools.count(1):
        open_jobs = [job for job in store.jobs(run.id) if job.closed_at is None]
        if not open_jobs:
            break
        _require_confirmed(store, run, open_jobs, after=after, late=time.monotonic() > deadline)
        time.sleep(0.2)
        if look % 25 == 0:  # the one that should do it may be gone
            conductor.start(run.id)
        for job in open_jobs:  # one that took another's place meanwhile
            if job.stop_at is None:
                store.ask_stop(job.id, grace)
        # A launch that was under way when the stop was asked for has its lease by now.
        errors = [_told(store, store.job(job.id), backends, grace) for job in open_jobs]
        refusals = [error for error in errors if isinstance(error, CredentialsMissing)]
        denied = denied + 1 if refusals else 0
        if denied > _DENIALS:  # a single odd answer is none
            raise MayStillBill(
                f"{run.name} is not told to end, and may still bill: {refusals[0].message}",
                hint=f"{refusals[0].hint}; then: ftlaunch stop {run.name}",
            )
    now = store.run(run.id)
    if any(job.pulled_at for job in store.jobs(run.id)):
        return f"{now.name}: {now.phase}; results are in {now.output_dir}"
    return f"{now.name}: {now.phase}; there are no results"


def _require_confirmed(
    store: Store, run: RunRecord, open_jobs: Sequence[JobRecord], *, after: int, late: bool
) -> None:
    look = f"look with: ftlaunch inspect {run.name}; kill it with: ftlaunch stop --now {run.name}"
    for event in store.events(run.id, after=after):
        if event.data.get("fatal"):
            raise MayStillBill(event.text, hint=str(event.data.get("hint") or look))
    # What has ended is being pulled: that may take long, and costs nothing more than the files do.
    if late and any(job.ended_at is None for job in open_jobs):
        why = next((f": {job.reason}" for job in open_jobs if job.phase is Phase.UNKNOWN), "")
        raise MayStillBill(f"{run.name} has not confirmed its end{why}", hint=look)


def _told(
    store: Store, job: JobRecord, backends: Backends, grace: timedelta
) -> FtlaunchError | None:
    """Ask a job to end; why it was not told. The conductor asks a silent provider, too."""
    try:
        end_job(store, job, backends, grace)
    except FtlaunchError as error:
        return error
    return None


def end_job(store: Store, job: JobRecord, backends: Backends, grace: timedelta) -> None:
    """Ask one job to end, whatever it is at; may be asked again."""
    if job.ended_at is not None:
        return
    if job.intent_at is None and store.mark_not_begun(job.id, "stopped before it began"):
        return
    if job.lease is not None and job.launched_at is not None:
        backends.of(job).signal(job.lease, Signal.STOP, grace=grace)
