"""No capacity: a training that nobody has begun goes to the next offer of its run's list.

Only that sends it on. After any other error, and after a launch that was ever in doubt, a second
one could bill beside the first: then the run stays where it is, for a person to look at.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from backends.errors import NoCapacity
from backends.lease import Keep, Observation, Phase
from backends.offer import Need, Offer
from backends.protocol import Progress
from launcher.plan_text import hardware
from launcher.run import adding, limits, marks, placing, spec
from launcher.run.desk import Desk
from launcher.run.marks import BEGUN, LEAVING, MOVED
from launcher.run.spec import Elsewhere, RunSpec, offer_from_json
from launcher.store import JobRecord

WAIT = timedelta(minutes=10)
"""How long a queue is waited in where there is another offer and nothing else was said."""


def may_move(desk: Desk, job: JobRecord) -> bool:
    """Whether a job that finds no capacity goes elsewhere, with the run.

    A resumed training stays with its checkpoint, and what follows a training with its machine. It
    stays as well where no other offer likely keeps to what is left of the limits.
    """
    if not desk.settled.elsewhere or job.kind not in {"preprocess", "train"}:
        return False
    if any(attach.anyhow for attach in desk.wanted(job).attach):
        return False
    apart = {job.id, *marks.moved(desk)}
    others = [one for one in desk.store.jobs(desk.run.id) if one.id not in apart]
    if any(one.kind == "train" and one.launched_at is not None for one in others):
        return False
    return _number(desk, job) is not None and not marks.was_in_doubt(desk, job)


def _number(desk: Desk, job: JobRecord) -> int | None:
    """Which of its other offers the run goes to next: the first that the limits still allow."""
    left = limits.left(desk, job)
    elsewhere = enumerate(desk.settled.elsewhere)
    return next((number for number, one in elsewhere if limits.allow(left, one)), None)


def require_patience(desk: Desk, job: JobRecord, seen: Observation) -> None:
    """Raises NoCapacity for a job that has been queued too long, where there is another offer.

    Only where a queue costs nothing, and only of a job that was never given a machine.
    """
    if seen.phase is not Phase.QUEUED or seen.state is not None or job.launched_at is None:
        return
    offer = offer_from_json(job.offer)
    patience = desk.settled.max_wait or WAIT
    if not offer.ends or datetime.now(UTC) - job.launched_at < patience:
        return
    if may_move(desk, job) and not marks.has(desk, job, BEGUN):
        seconds = patience.total_seconds()
        long = f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
        wanted = hardware(offer) if offer.gpu else "machine without a GPU"
        raise NoCapacity(f"no {wanted} was free for it in {long}")


def go_on_leaving(desk: Desk, job: JobRecord, seen: Observation | None = None) -> None:
    """Raises NoCapacity for a job that was being left when its conductor died.

    seen  how it stands, of one that was launched: what got its machine meanwhile is not left
    """
    why = marks.why_left(desk, job)
    if why is None or desk.store.job(job.id).stop_at is not None:
        return
    gone = {Phase.QUEUED, Phase.STOPPED, Phase.LOST}
    never = job.launched_at is None
    if never or (seen is not None and seen.phase in gone and seen.state is None):
        raise NoCapacity(why)


def told_begun(desk: Desk, job: JobRecord, seen: Observation) -> None:
    """Remember that a job which may be queued has had a machine: such a one is never left."""
    if seen.phase not in {Phase.STARTING, Phase.RUNNING} or not offer_from_json(job.offer).ends:
        return
    if desk.settled.elsewhere and not marks.has(desk, job, BEGUN):
        desk.say(BEGUN, f"{job.kind} has its machine", job)


def move(desk: Desk, job: JobRecord, error: NoCapacity, progress: Progress) -> bool:
    """Put the run on its next offer, its jobs not yet begun; False when it stays where it is.

    What a launch may have left is let go of first, confirmed. That it is about to be is written
    before, and the store changes at once after: whoever finds the job in between goes on here.
    Raises MayStillBill when the end of what was there is not confirmed, and what an environment
    for this machine raises where it is the next.
    """
    number = _number(desk, job)
    if number is None or not may_move(desk, job):
        return False
    passed, following = desk.settled.elsewhere[:number], desk.settled.elsewhere[number]
    if marks.why_left(desk, job) is None:
        desk.say(LEAVING, f"{job.kind} leaves {job.backend}", job, why=error.message)
    if job.lease is not None:
        desk.backend(job).release(job.lease, keep=Keep.NOTHING)
    there = placing.resettled(
        desk.run.id,
        desk.settled,
        began=training_offer(desk, job),
        offer=following.offer,
        need=desk.settled.need or Need(),
        progress=progress,
    )
    there = replace(
        there,
        elsewhere=desk.settled.elsewhere[number + 1 :],
        left_out=(*desk.settled.left_out, *map(_why_passed, passed)),
    )
    return _written(desk, job, error, following, there)


def _written(
    desk: Desk, job: JobRecord, error: NoCapacity, following: Elsewhere, there: RunSpec
) -> bool:
    store, run = desk.store, desk.run
    with store.together():
        if any(one.stop_at is not None for one in store.jobs(run.id) if one.open):
            return False  # its end was asked for meanwhile
        why = error.message
        store.mark_ended(job.id, Phase.FAILED, exit_code=None, reason=why, cost=None)
        store.mark_closed(job.id, None)
        store.remove_unbegun(run.id)
        store.move_run(run.id, backend=following.backend, spec=spec.run_to_json(there))
        store.set_run(run.id, Phase.QUEUED)
        adding.add_jobs(store, run, there, following.offer, backend=following.backend)
        refused = _told(job.backend, training_offer(desk, job))
        text = (
            f"{job.backend} has no capacity ({why}); next is {hardware(following.offer)} at "
            f"{following.backend}, {following.offer.price} an hour"
        )
        desk.say(MOVED, text, job, refused=refused, why=why)
    return True


def _why_passed(one: Elsewhere) -> str:
    return f"{one.backend}, {hardware(one.offer)}: likely above what was left of the limits"


def _told(backend: str, offer: Offer) -> dict[str, object]:
    return {
        "backend": backend,
        "gpu": offer.gpu,
        "count": offer.count,
        "region": offer.region,
        "spot": offer.spot,
        "price_per_hour": str(offer.price.amount),
        "currency": offer.price.currency,
    }


def training_offer(desk: Desk, job: JobRecord) -> Offer:
    """What the training was to run on, of which this job is a part."""
    jobs = desk.store.jobs(desk.run.id)
    trains = (one for one in jobs if one.kind == "train" and one.id >= job.id)
    return offer_from_json(next(trains, job).offer)
