"""No capacity: a training that nobody has begun goes to the next offer of its run's list.

Only that sends it on. After any other error, and after a launch that was ever in doubt, a second
one could bill beside the first: then the run stays where it is, for a person to look at.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from backends.errors import NoCapacity
from backends.lease import Keep, Observation, Phase
from backends.offer import Need, Offer
from backends.protocol import Progress
from launcher.plan_text import hardware
from launcher.run import adding, marks, next_offer, placing, spec
from launcher.run.desk import Desk
from launcher.run.marks import BEGUN, LEAVING, MOVED, STAYS
from launcher.run.next_offer import Next
from launcher.run.spec import RunSpec, offer_from_json
from launcher.store import JobRecord

WAIT = timedelta(minutes=10)
"""How long a queue is waited in where there is another offer and nothing else was said."""


def may_move(desk: Desk, job: JobRecord) -> bool:
    """Whether a job that finds no capacity goes elsewhere, with the run.

    A resumed training stays with its checkpoint, and what follows a training with its machine. It
    stays as well where no other offer can be had that likely keeps to what is left of the limits.
    """
    return _is_free(desk, job) and next_offer.choose(desk, job).there is not None


def _is_free(desk: Desk, job: JobRecord) -> bool:
    """Whether it may, where there is an offer that can be had."""
    if not desk.settled.elsewhere or job.kind not in {"preprocess", "train"}:
        return False
    if any(attach.anyhow for attach in desk.wanted(job).attach):
        return False
    apart = {job.id, *marks.moved(desk)}
    others = [one for one in desk.store.jobs(desk.run.id) if one.id not in apart]
    if any(one.kind == "train" and one.launched_at is not None for one in others):
        return False
    return not marks.was_in_doubt(desk, job)


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
    if marks.has(desk, job, BEGUN) or not _is_free(desk, job):
        return
    if (following := next_offer.choose(desk, job)).there is None:
        _tell_it_stays(desk, job, following)
    else:
        seconds = patience.total_seconds()
        long = f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
        wanted = hardware(offer) if offer.gpu else "machine without a GPU"
        raise NoCapacity(f"no {wanted} was free for it in {long}")


def _tell_it_stays(desk: Desk, job: JobRecord, following: Next) -> None:
    """Once: the offers are asked again all the while."""
    if not marks.has(desk, job, STAYS):
        why = "; ".join(following.passed)
        desk.say(STAYS, f"{job.kind} stays in its queue, the others are passed over: {why}", job)


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
    if not _is_free(desk, job):
        return False
    following = next_offer.choose(desk, job)
    if following.there is None:
        _write_passed(desk, following)
        return False
    if marks.why_left(desk, job) is None:
        desk.say(LEAVING, f"{job.kind} leaves {job.backend}", job, why=error.message)
    if job.lease is not None:
        desk.backend(job).release(job.lease, keep=Keep.NOTHING)
    there = placing.resettled(
        desk.run.id,
        desk.settled,
        began=training_offer(desk, job),
        offer=following.there.offer,
        need=desk.settled.need or Need(),
        progress=progress,
    )
    there = replace(there, **_passed(desk, following))
    return _written(desk, job, error.message, following, there)


def _passed(desk: Desk, following: Next) -> dict[str, Any]:
    """What the run's record has of offers that are passed over, and of those that are left."""
    left_out = (*desk.settled.left_out, *following.passed)
    return {"elsewhere": following.rest, "left_out": left_out}


def _write_passed(desk: Desk, following: Next) -> None:
    """It goes nowhere: why is told where the run's offers are."""
    settled = replace(desk.settled, **_passed(desk, following))
    desk.store.move_run(desk.run.id, backend=desk.run.backend, spec=spec.run_to_json(settled))


def _written(desk: Desk, job: JobRecord, why: str, following: Next, there: RunSpec) -> bool:
    store, run, to = desk.store, desk.run, following.there
    assert to is not None
    cost = marks.in_vain(desk).get(job.id)
    with store.together():
        if any(one.stop_at is not None for one in store.jobs(run.id) if one.open):
            return False  # its end was asked for meanwhile
        store.mark_ended(job.id, Phase.FAILED, exit_code=None, reason=why, cost=cost)
        store.mark_closed(job.id, None)
        store.remove_unbegun(run.id)
        store.move_run(run.id, backend=to.backend, spec=spec.run_to_json(there))
        store.set_run(run.id, Phase.QUEUED)
        adding.add_jobs(store, run, there, to.offer, backend=to.backend)
        refused = _told(job.backend, training_offer(desk, job))
        text = (
            f"{job.backend} has no capacity ({why}); next is {hardware(to.offer)} at "
            f"{to.backend}, {following.note or f'{to.offer.price} an hour'}"
        )
        desk.say(MOVED, text, job, refused=refused, why=why, note=following.note)
    return True


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
