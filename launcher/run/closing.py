"""After a job's end: its results come home, and what it ran on is let go of, as was wished."""

from __future__ import annotations

import itertools
import time
from datetime import timedelta

from backends.errors import FtlaunchError, Lost, NotLaunched
from backends.job import Files
from backends.lease import Keep, Phase
from launcher.on_finish import bills, ending
from launcher.run import pull
from launcher.run.desk import Desk, counts
from launcher.run.inventory import home
from launcher.run.pull import Pulled
from launcher.run.spec import offer_from_json
from launcher.store import JobRecord

PATIENCE = timedelta(minutes=5)
"""How long a silent provider is waited for with the results: its machine bills meanwhile, and to
wake it again later would cost as much."""


def bring_home(desk: Desk, job: JobRecord) -> float | None:
    """Pull and verify the job's results; what is lost is said, and ends nothing else.

    The seconds of a pull that was done in one go, while this computer was awake; else None.
    """
    if job.files is None:
        return None
    try:
        pulled, took_s = _patiently(desk, job)
    except Lost as error:
        if job.launched_at is not None:
            desk.say("error", error.message, job, hint=error.hint, exit_code=error.exit_code)
        return None
    desk.store.mark_pulled(job.id)
    if counts(job) and desk.wanted(job).pull:
        sizes = {"files": len(pulled.files), "bytes": pulled.size_bytes}
        desk.say("pulled", pulled.sentence(), job, **sizes)
    return took_s


def _patiently(desk: Desk, job: JobRecord) -> tuple[Pulled, float | None]:
    """Pull, and while the provider is silent, or refuses, try again: everything is there.

    Of a machine that has to be woken a single odd answer (a 401, no capacity) is not the end.
    Raises what the last try raised when patience is over; nothing is lost by it.
    """
    now = desk.store.job(job.id)
    hurry = now.stop_at is not None and not now.stop_grace
    end = time.monotonic() + (0 if hurry else PATIENCE.total_seconds())
    patterns = desk.wanted(job).pull
    for number in itertools.count():
        try:
            began = time.monotonic()
            pulled = pull.pull(desk.backend(job), job, home(desk.run, job), patterns=patterns)
            # What an earlier try brought is not brought again.
            return pulled, None if number else time.monotonic() - began
        except FtlaunchError as error:
            again = error.transient or isinstance(error, NotLaunched)
            if not again or time.monotonic() > end:
                raise
            if number == 0:
                text = f"the results of {job.kind} cannot be fetched now: {error.message}"
                desk.say("unknown", f"{text}; it is tried again", job)
        time.sleep(min(30.0, 0.5 * 2**number))
    raise AssertionError


def is_worth_holding(desk: Desk, job: JobRecord) -> bool:
    """Whether a job's machine, once it is let go of, would have to be paid for anew."""
    offer = offer_from_json(job.offer)
    return job.lease is not None and bills(offer) and _keep(desk, job) is not None


def let_go(desk: Desk, job: JobRecord) -> None:
    """Release what the job ran on, or hold it where that was wished. Raises MayStillBill."""
    if job.lease is None:
        _close(desk, job, job.files)
        return
    keep = _keep(desk, job)
    if keep is None:
        _hold(desk, job)
        return
    _close(desk, job, desk.backend(job).release(job.lease, keep=keep))
    desk.say("released", f"{job.kind} is let go of", job)


def _hold(desk: Desk, job: JobRecord) -> None:
    """Leave it as it is; a job whose end was asked for meanwhile stays open, and comes again."""
    billing = " and goes on billing" if bills(offer_from_json(job.offer)) else ""
    hint = f"let go of it with: {desk.stop_command()}"
    _settle(desk, job)
    with desk.store.together():
        if desk.store.mark_held(job.id):
            desk.say("held", f"what {job.kind} ran on is kept{billing}", job, hint=hint)


def _keep(desk: Desk, job: JobRecord) -> Keep | None:
    """What stays at the provider; None: the lease itself, until somebody asks for its end.

    Results that are not here are never thrown away: they stay where they are.
    """
    offer = offer_from_json(job.offer)
    asked = ending(desk.wanted(job).on_finish, offer).keep
    if asked is None and (job.stop_at is not None or job.launched_at is None):
        asked = ending(None, offer).keep
    if asked is Keep.NOTHING and job.files is not None and job.pulled_at is None:
        return Keep.FILES
    return asked


def _close(desk: Desk, job: JobRecord, files: Files | None) -> None:
    _settle(desk, job)
    desk.store.mark_closed(job.id, files)


def _settle(desk: Desk, job: JobRecord) -> None:
    # The run's phase first: a crash between the two is then mended by closing again.
    if counts(job) and not any(_came_after(job, other) for other in desk.store.jobs(desk.run.id)):
        desk.store.set_run(desk.run.id, desk.store.job(job.id).phase)


def _came_after(job: JobRecord, other: JobRecord) -> bool:
    """Whether the run's phase is the other's already: a job can be let go of after a later one.

    One that was left out says nothing about the run.
    """
    tried = other.intent_at is not None or other.phase is Phase.FAILED
    return other.id > job.id and other.closed_at is not None and counts(other) and tried
