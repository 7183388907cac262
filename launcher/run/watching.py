"""Looking at a job until it has ended, however long its provider is silent meanwhile."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from datetime import datetime, timedelta

from backends.errors import FtlaunchError
from backends.lease import Lease, Observation, Phase, Signal
from backends.protocol import Backend
from launcher.run import marks
from launcher.run.desk import Desk
from launcher.run.moving import go_on_leaving, require_patience, told_begun
from launcher.run.pace import pause
from launcher.store import JobRecord

LEAST_S = 0.25
"""How often a living job is looked at when an answer costs next to nothing."""

SILENT_S = 30.0
"""How long a machine that is to end at once may be silent before it is let go of unheard."""

_TOLD_AGAIN_S = 120.0
"""After this long a queue is told of once more, and then each time it has lasted twice as long."""

_QUIET_ENDS = {Phase.SUCCEEDED, Phase.STOPPED}


def watch(desk: Desk, job: JobRecord, lease: Lease) -> None:
    """Look until there is a verdict, and record it. A provider's silence is said once.

    Raises NoCapacity for one that has been queued too long, where there is another offer, and for
    one that was being left for that.
    """
    backend = desk.backend(job)
    last: Phase | None = None
    waits = False
    stopping = _Stopping(desk, job.id, lease)
    queue = _Queue()
    leaving = marks.why_left(desk, job) is not None
    while True:
        began = time.monotonic()
        stopping.mind()
        seen = _look(backend, lease)
        if stopping.in_vain(seen):
            seen = Observation(Phase.STOPPED, reason="it did not answer, and was to end at once")
        if leaving:
            go_on_leaving(desk, job, seen)
        if seen.phase.ended:
            break
        require_patience(desk, job, seen)
        if seen.phase is not last or queue.is_worth_a_word(seen):
            waits = _changed(desk, job, backend, seen, last, waits=waits)
            last = seen.phase
            told_begun(desk, job, seen)
        time.sleep(pause(time.monotonic() - began, least_s=LEAST_S))
    _verdict(desk, job, seen)


class _Queue:
    """A job that waits for its machine: told of again, the longer it waits the more seldom."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since: float | None = None
        self._next_s = _TOLD_AGAIN_S

    def is_worth_a_word(self, seen: Observation) -> bool:
        """Whether as long again has passed as when it was last told."""
        if seen.phase is not Phase.QUEUED:
            self._since, self._next_s = None, _TOLD_AGAIN_S
            return False
        self._since = self._clock() if self._since is None else self._since
        if self._clock() - self._since < self._next_s:
            return False
        self._next_s *= 2
        return True


class _Stopping:
    """An end that is asked for while the job runs: told to it, also when who asked has gone."""

    def __init__(self, desk: Desk, job_id: int, lease: Lease) -> None:
        self._desk = desk
        self._job_id = job_id
        self._lease = lease
        self._told_at: datetime | None = None
        self._since: float | None = None

    def mind(self) -> None:
        """Pass a wish on, once; a provider that does not answer is asked again."""
        job = self._desk.store.job(self._job_id)
        if job.stop_at is None or job.stop_at == self._told_at:
            return
        self._since = self._since or time.monotonic()
        grace = timedelta() if job.stop_grace is None else job.stop_grace
        with contextlib.suppress(FtlaunchError):
            self._desk.backend(job).signal(self._lease, Signal.STOP, grace=grace)
            self._told_at = job.stop_at

    def in_vain(self, seen: Observation) -> bool:
        """Whether it was to end at once, and nobody answers there: then it is just let go of."""
        job = self._desk.store.job(self._job_id)
        if seen.phase is not Phase.UNKNOWN or job.stop_at is None or job.stop_grace:
            return False
        return time.monotonic() - (self._since or time.monotonic()) > SILENT_S


def _look(backend: Backend, lease: Lease) -> Observation:
    """`observe` raises nothing; of one that does, no more is known than of one that is silent."""
    try:
        return backend.observe(lease)
    except FtlaunchError as error:
        return Observation(Phase.UNKNOWN, reason=error.message)


def _changed(
    desk: Desk,
    job: JobRecord,
    backend: Backend,
    seen: Observation,
    last: Phase | None,
    *,
    waits: bool,
) -> bool:
    """Note the new phase, and tell of it if need be; whether the job waits for a machine now."""
    desk.store.set_phase(job.id, seen.phase, seen.reason)
    if seen.phase is Phase.UNKNOWN:
        why = f": {seen.reason}" if seen.reason else ""
        desk.say("unknown", f"{backend.name} does not answer{why}; {job.kind} is looked for", job)
        return waits
    if seen.phase is Phase.QUEUED or _set_back(seen, last):
        desk.say("queued", f"{job.kind} waits: {seen.reason}", job)
        return True
    if waits:
        desk.say("back", f"{job.kind} is {seen.phase}", job)
        return seen.phase is not Phase.RUNNING
    if last is Phase.UNKNOWN:
        desk.say("back", f"{backend.name} answers again: {job.kind} is {seen.phase}", job)
    return False


def _set_back(seen: Observation, last: Phase | None) -> bool:
    """It ran, and its machine was taken away: another one is being made for it."""
    return seen.phase is Phase.STARTING and last is Phase.RUNNING and bool(seen.reason)


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
