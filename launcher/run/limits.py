"""What is left of a run's limits, in time and in money, for the next of its jobs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from backends.errors import Capped
from backends.offer import Offer
from launcher.choosing import time_for
from launcher.on_finish import bills
from launcher.run.desk import Desk, counts
from launcher.run.spec import offer_from_json
from launcher.store import JobRecord


def whole(duration: timedelta | None, cost: Decimal | None, offer: Offer) -> timedelta | None:
    """How long a run of one job may take: the shorter of its limits in time and in dollars.

    Raises Capped where the offer is not in dollars.
    """
    limits = [] if duration is None else [duration]
    if cost is not None and bills(offer):
        limits.append(time_for(cost, offer))
    return min(limits, default=None)


def deadline(desk: Desk, job: JobRecord) -> timedelta | None:
    """What is left for this job of the run's limits.

    A training and what was planned with it share the limits; what was asked for later, and every
    new training, has the whole of them. A question to the model has none.
    Raises Capped when nothing is left.
    """
    if not counts(job):
        return None
    duration = desk.wanted(job).deadline or desk.settled.max_duration
    cost, offer = desk.settled.max_cost, offer_from_json(job.offer)
    shared = _shared(desk, job)
    if duration is not None:
        said, duration = str(duration), duration - sum(map(_lasted, shared), timedelta())
        _require(duration > timedelta(), said, desk, job)
    if cost is not None and bills(offer):
        said, cost = f"{cost} dollars", cost - sum(map(spent, shared), Decimal(0))
        _require(cost > 0, said, desk, job)
    return whole(duration, cost, offer)


def _require(something_left: bool, limit: str, desk: Desk, job: JobRecord) -> None:
    if not something_left:
        raise Capped(
            f"nothing is left of the limit of {limit} for {job.kind}",
            hint=f"run it by itself with: ftlaunch {job.kind} {desk.run.name}",
        )


def _shared(desk: Desk, job: JobRecord) -> Sequence[JobRecord]:
    """The earlier jobs that the limits are shared with."""
    if not desk.wanted(job).after_success:
        return ()
    jobs = desk.store.jobs(desk.run.id)
    earlier = [j for j in jobs if j.id < job.id and counts(j)]
    began = max((j.id for j in earlier if not desk.wanted(j).after_success), default=0)
    return [j for j in earlier if j.id >= began]


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
