"""What is left of a run's limits, in time and in money, for the next of its jobs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from backends.errors import Capped
from backends.offer import Offer
from launcher.choosing import time_for
from launcher.on_finish import bills
from launcher.run import marks
from launcher.run.desk import Desk, counts
from launcher.run.spec import Elsewhere, offer_from_json
from launcher.store import JobRecord


def whole(duration: timedelta | None, cost: Decimal | None, offer: Offer) -> timedelta | None:
    """How long a run of one job may take: the shorter of its limits in time and in dollars.

    Raises Capped where the offer is not in dollars.
    """
    limits = [] if duration is None else [duration]
    if cost is not None and bills(offer):
        limits.append(time_for(cost, offer))
    return min(limits, default=None)


@dataclass(frozen=True)
class Left:
    """What is left of a run's limits, which may be nothing, or less; None: there is no such limit.

    cost  dollars
    """

    duration: timedelta | None
    cost: Decimal | None


def left(desk: Desk, job: JobRecord) -> Left:
    """What is left for this job, before it has begun.

    A training and what was planned with it share the limits, over all places that it was moved to;
    what was asked for later, and every new training, has the whole of them. What launches have cost
    that came to nothing counts as well.
    """
    refused = marks.moved(desk)
    shared = _shared(desk, job, refused)
    worked = [one for one in shared if one.id not in refused and one.id != job.id]
    duration, cost = desk.wanted(job).deadline or desk.settled.max_duration, desk.settled.max_cost
    return Left(
        None if duration is None else duration - sum(map(_lasted, worked), timedelta()),
        None if cost is None else cost - sum(map(spent, worked), Decimal(0)) - _vain(desk, shared),
    )


def _vain(desk: Desk, shared: Sequence[JobRecord]) -> Decimal:
    """Dollars: where an account pays in others there is no such limit."""
    costs = marks.in_vain(desk)
    found = [costs[job.id] for job in shared if job.id in costs]
    return sum((cost.amount for cost in found if cost.currency == "USD"), Decimal(0))


def allow(left: Left, there: Elsewhere) -> bool:
    """Whether a whole training there likely keeps to what is left."""
    if left.duration is not None:
        likely = there.likely_time or timedelta()
        if left.duration <= timedelta() or likely > left.duration:
            return False
    if left.cost is None or not bills(there.offer):
        return True
    return left.cost > 0 and (there.likely_cost or 0) <= left.cost


def deadline(desk: Desk, job: JobRecord) -> timedelta | None:
    """How long this job may take, by what is left of the run's limits.

    A question to the model has none.
    Raises Capped when nothing is left.
    """
    if not counts(job):
        return None
    offer, mine = offer_from_json(job.offer), left(desk, job)
    if mine.duration is not None:
        said = str(desk.wanted(job).deadline or desk.settled.max_duration)
        _require(mine.duration > timedelta(), said, desk, job)
    if mine.cost is not None and bills(offer):
        _require(mine.cost > 0, f"{desk.settled.max_cost} dollars", desk, job)
    return whole(mine.duration, mine.cost, offer)


def _require(something_left: bool, limit: str, desk: Desk, job: JobRecord) -> None:
    if not something_left:
        raise Capped(
            f"nothing is left of the limit of {limit} for {job.kind}",
            hint=f"run it by itself with: ftlaunch {job.kind} {desk.run.name}",
        )


def _shared(desk: Desk, job: JobRecord, refused: set[int]) -> Sequence[JobRecord]:
    """The jobs until this one that the limits are shared with, those that were refused as well."""
    jobs = [j for j in desk.store.jobs(desk.run.id) if j.id <= job.id and counts(j)]
    began = _began(desk, jobs)
    while before := [j for j in jobs if j.id < began]:
        if before[-1].id not in refused:
            break
        began = _began(desk, before)  # it was moved from there
    return [j for j in jobs if began <= j.id]


def _began(desk: Desk, jobs: Sequence[JobRecord]) -> int:
    """The first of what was planned together with the last of these."""
    return max((j.id for j in jobs if not desk.wanted(j).after_success), default=0)


def _lasted(job: JobRecord) -> timedelta:
    if job.launched_at is None:
        return timedelta()
    offer = offer_from_json(job.offer)
    if offer.ends and job.cost is not None and bills(offer):
        # Not the time that it was queued for, which costs nothing.
        return timedelta(hours=float(job.cost.amount / offer.price.amount))
    return (job.ended_at or datetime.now(UTC)) - job.launched_at


def spent(job: JobRecord) -> Decimal:
    """Dollars: of a machine for all the time that it was held, though the job worked for less."""
    hours = Decimal(str(_lasted(job).total_seconds())) / 3600
    return hours * offer_from_json(job.offer).price.amount
