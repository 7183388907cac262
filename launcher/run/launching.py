"""A job's launch: found again after a crash, or made now from what the store says."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence

from backends.errors import (
    CredentialsMissing,
    FtlaunchError,
    MayStillBill,
    NoCapacity,
    NotLaunched,
    Refused,
    Unsure,
)
from backends.job import Job, LocalTree, Secrets
from backends.lease import Lease, Phase
from backends.offer import Money
from backends.protocol import Progress
from launcher import places
from launcher.on_finish import ending
from launcher.run import marks, papers
from launcher.run.desk import Desk, counts
from launcher.run.given import given
from launcher.run.limits import deadline
from launcher.run.moving import may_move
from launcher.run.spec import offer_from_json
from launcher.run.uplink import Meter
from launcher.store import JobRecord, Store, open_store

_LOOK_S = 0.5
_PATIENCE_S = 300.0
"""How long a silent provider is waited for with a job that goes on from another."""
_OFTEN_S = 0.5
"""How often progress is written down, at most."""


def launched(desk: Desk, job: JobRecord) -> Lease | None:
    """The job's lease, launched now if need be; None when it was stopped before that."""
    if job.lease is not None and job.launched_at is not None:
        return job.lease
    backend, again = desk.backend(job), job.intent_at is not None
    if again:
        if (found := _found(desk, job)) is not None:
            return found
        if job.stop_at is not None:
            why = "stopped before it began"
            desk.store.mark_ended(job.id, Phase.STOPPED, exit_code=None, reason=why, cost=None)
            return None
        if marks.has(desk, job, marks.LAUNCHING) and not marks.was_in_doubt(desk, job):
            text = f"an earlier launch of {job.kind} was cut short: it is made again, there only"
            desk.say(marks.CUT_SHORT, text, job)
    _require_secrets(desk, job)
    prepared = _prepare(desk, job)
    if not desk.store.mark_intent(job.id):
        return None
    desk.say(marks.LAUNCHING, f"{job.kind} goes to {backend.name}", job)
    meter = Meter(Told(desk, job))
    made, took_s = _patiently(desk, job, prepared, meter)
    if made is None:
        return None
    desk.store.save_lease(job.id, made)
    if meter.told:
        desk.store.save_uplink(job.backend, sent_bytes=meter.sent_bytes, seconds=meter.seconds)
    _runs(desk, job, None if again else took_s)
    return made


def _found(desk: Desk, job: JobRecord) -> Lease | None:
    """What there is of a launch that a crash cut off between its intent and its end, by its tag.

    A machine whose job was never begun is launched on again: a launch is done once, however often
    it is asked for.
    """
    for lease in _leases(desk, job):
        if lease.job == job.name:
            desk.store.save_lease(job.id, lease)
            if desk.backend(job).observe(lease).phase is not Phase.LOST:
                _runs(desk, job)
                return lease
    return None


def _patiently(
    desk: Desk, job: JobRecord, prepared: Job, progress: Progress
) -> tuple[Lease | None, float | None]:
    """Launch. Of a job that goes on from another a provider's silence is not the end.

    Nobody may be there to ask for it once more, and what it goes on from would be let go of.
    With the lease: the seconds of a launch that was done in one go, while this computer was awake.
    """
    first: float | None = time.monotonic()
    end = time.monotonic() + (_PATIENCE_S if desk.wanted(job).after_success else 0)
    pause = 1.0
    while True:
        try:
            made = _unless_stopped(desk, job, prepared, progress)
            return made, None if first is None else time.monotonic() - first
        except (NotLaunched, Refused) as error:
            _note_billed(desk, job, error.billed)
            if isinstance(error, Refused):
                raise
            gone = isinstance(error, NoCapacity) and may_move(desk, job)
            if gone or not error.transient or time.monotonic() > end:
                raise
            desk.say("unknown", f"{error.message}; {job.kind} is launched when it answers", job)
        time.sleep(pause)
        first = None
        pause = min(30.0, 2 * pause)


def _note_billed(desk: Desk, job: JobRecord, cost: Money | None) -> None:
    """What a machine cost that was made and let go of again: it counts under the run's limits."""
    if cost is not None and cost.amount:
        text = f"what was rented for {job.kind} is let go of again; it has cost {cost}"
        amount = {"amount": str(cost.amount), "currency": cost.currency}
        desk.say(marks.IN_VAIN, text, job, **amount)


def _unless_stopped(desk: Desk, job: JobRecord, prepared: Job, progress: Progress) -> Lease | None:
    """Launch; None when its end was asked for meanwhile, and the backend has undone it."""
    try:
        with interrupted_by_stop(desk.store, job.id):
            return desk.backend(job).launch(
                prepared,
                offer_from_json(job.offer),
                on_lease=lambda found: desk.store.save_lease(job.id, found),
                progress=progress,
            )
    except KeyboardInterrupt:
        if desk.store.job(job.id).stop_at is None:
            raise
    why = "stopped before it began"
    desk.store.mark_ended(job.id, Phase.STOPPED, exit_code=None, reason=why, cost=None)
    return None


@contextlib.contextmanager
def interrupted_by_stop(store: Store, job_id: int) -> Iterator[None]:
    """While entered, a wish for the job's end interrupts what this thread does, like Ctrl-C.

    A launch may take a quarter of an hour, and bills: a backend undoes one that is interrupted. For
    the main thread only, as all that has to do with signals.
    """
    over, folder = threading.Event(), store.folder
    door = threading.Lock()
    here = threading.get_ident()

    def look() -> None:
        with contextlib.closing(open_store(folder)) as mine:
            while not over.wait(_LOOK_S):
                if mine.job(job_id).stop_at is None:
                    continue
                with door:
                    if not over.is_set():
                        # A real signal: it also ends a wait for an answer, or a sleep.
                        signal.pthread_kill(here, signal.SIGINT)
                return

    # Whoever started this in the background may have turned interrupts off.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    looking = threading.Thread(target=look, name="stop asked", daemon=True)
    looking.start()
    try:
        yield
    finally:
        try:
            with door:  # an interrupt that was just sent is felt in here, not later
                over.set()
                time.sleep(0)
            looking.join()
        finally:
            signal.signal(signal.SIGINT, before)


def _runs(desk: Desk, job: JobRecord, took_s: float | None = None) -> None:
    """From here the job goes on by itself; whoever started it detached waits to hear so.

    took_s  of its launch, for the next estimate; None where nobody saw it from start to end
    """
    text = f"{job.kind} runs"
    if offer_from_json(job.offer).ends:  # perhaps it is queued there, which is said next
        text = f"{job.kind} is at {desk.backend(job).name} now"
    with desk.store.together():
        desk.store.mark_launched(job.id)
        if counts(job):  # a question leaves the run as it is
            desk.store.set_run(desk.run.id, Phase.RUNNING)
        desk.say("launched", text, job, **({} if took_s is None else {"seconds": took_s}))


def _leases(desk: Desk, job: JobRecord) -> Sequence[Lease]:
    """What the backend holds. Raises Unsure when it does not say: silence is not "nothing"."""
    backend = desk.backend(job)
    try:
        return backend.leases()
    except MayStillBill:
        raise
    except FtlaunchError as error:
        raise Unsure(
            f"{backend.name} does not say whether {job.kind} runs: {error.message}",
            intent=job.name,
            lease=job.lease,
            hint=f"try again with: ftlaunch wait {desk.run.name}",
        ) from error


def _require_secrets(desk: Desk, job: JobRecord) -> None:
    """A conductor of another terminal may lack a secret; the job waits for one that has it."""
    missing = [name for name in desk.wanted(job).secrets if name not in os.environ]
    if missing:
        text = f"{job.kind} needs the secret {missing[0]}, which is not set in this terminal"
        hint = f"set it, then: ftlaunch wait {desk.run.name}"
        code = CredentialsMissing.exit_code
        desk.say("error", text, job, hint=hint, exit_code=code, fatal=True)
        raise SystemExit(code)


def _prepare(desk: Desk, job: JobRecord) -> Job:
    wanted = desk.wanted(job)
    paper = papers.with_job(desk, job, places.run_dir(desk.run.id) / "staged")
    return Job(
        name=job.name,
        plan=wanted.plan,
        inputs=(LocalTree((*wanted.files, paper)), *(given(desk, job, a) for a in wanted.attach)),
        environment=wanted.environment,
        caches=wanted.caches,
        nodes=wanted.nodes,
        ports=wanted.ports,
        env=wanted.env,
        secrets=Secrets({name: os.environ[name] for name in wanted.secrets}),
        kept_secrets=_kept_here(desk, job),
        outputs=wanted.outputs,
        deadline=deadline(desk, job),
        self_release=ending(wanted.on_finish, offer_from_json(job.offer)).linger,
    )


def _kept_here(desk: Desk, job: JobRecord) -> tuple[str, ...]:
    """The names of the secrets that this job's provider keeps. Raises Refused for another's."""
    here = desk.backend(job).name
    names = []
    for text in desk.wanted(job).kept_secrets:
        where, _, name = text.partition(":")
        if where != here:
            raise Refused(
                f"{job.kind} needs the secret {text}, which {here} does not have",
                hint=f"run it at {where}: -b {where}",
            )
        names.append(name)
    return tuple(names)


class Told:
    """Passes a backend's progress on, at most a few times a second."""

    def __init__(self, desk: Desk, job: JobRecord) -> None:
        self._desk = desk
        self._job = job
        self._said = 0.0
        self._what = ""

    def __call__(self, what: str, *, done: int | None = None, total: int | None = None) -> None:
        """See `Progress`."""
        now = time.monotonic()
        if what == self._what and now - self._said < _OFTEN_S and done != total:
            return
        self._said, self._what = now, what
        self._desk.say("progress", what, self._job, done=done, total=total)
