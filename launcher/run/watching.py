"""Looking at a job until it has ended, however long its provider is silent meanwhile."""

from __future__ import annotations

import time
from datetime import datetime

from backends.errors import FtlaunchError
from backends.lease import Lease, Observation, Phase
from backends.protocol import Backend
from launcher.run.desk import Desk
from launcher.run.pace import pause
from launcher.store import JobRecord

LEAST_S = 0.25
"""How often a living job is looked at when an answer costs next to nothing."""

_QUIET_ENDS = {Phase.SUCCEEDED, Phase.STOPPED}


def watch(desk: Desk, job: JobRecord, lease: Lease) -> None:
    """Look until there is a verdict, and record it. A provider's silence is said once."""
    backend = desk.backend(job)
    last: Phase | None = None
    while True:
        began = time.monotonic()
        seen = _look(backend, lease)
        if seen.phase.ended:
            break
        if seen.phase is not last:
            _changed(desk, job, backend, seen, last)
            last = seen.phase
        time.sleep(pause(time.monotonic() - began, least_s=LEAST_S))
    _verdict(desk, job, seen)


def _look(backend: Backend, lease: Lease) -> Observation:
    """`observe` raises nothing; of one that does, no more is known than of one that is silent."""
    try:
        return backend.observe(lease)
    except FtlaunchError as error:
        return Observation(Phase.UNKNOWN, reason=error.message)


def _changed(
    desk: Desk, job: JobRecord, backend: Backend, seen: Observation, last: Phase | None
) -> None:
    desk.store.set_phase(job.id, seen.phase, seen.reason)
    if seen.phase is Phase.UNKNOWN:
        why = f": {seen.reason}" if seen.reason else ""
        desk.say("unknown", f"{backend.name} does not answer{why}; {job.kind} is looked for", job)
    elif last is Phase.UNKNOWN:
        desk.say("back", f"{backend.name} answers again: {job.kind} is {seen.phase}", job)


def _verdict(desk: Desk, job: JobRecord, seen: Observation) -> None:
    desk.store.mark_ended(
        job.id,
        seen.phase,
        exit_code=seen.exit_code,
        reason=seen.reason,
        cost=seen.cost,
        ended_at=_ended_at(seen),
    )
    quiet = seen.phase in _QUIET_ENDS
    desk.say(
        "ended",
        f"{job.kind} {seen.phase}" + (f": {seen.reason}" if seen.reason else ""),
        job,
        phase=seen.phase.value,
        job_exit_code=seen.exit_code,
        hint="" if quiet else f"its whole log: ftlaunch logs {desk.run.name}",
    )


def _ended_at(seen: Observation) -> datetime | None:
    """When the job ended by its own record: nobody may have looked for hours."""
    told = (seen.state or {}).get("ended_at")
    try:
        return datetime.fromisoformat(str(told)) if told else None
    except ValueError:
        return None
