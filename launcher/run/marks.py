"""Events that decide where a run goes: what no later conductor may forget of a job."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from backends.errors import MayStillBill
from backends.offer import Money

if TYPE_CHECKING:  # whoever only tells of events needs none of what a desk needs
    from launcher.run.desk import Desk
    from launcher.store import Event, JobRecord

MOVED = "elsewhere"
"""A job was refused, and its run went on; the data say what refused it, and why."""

BEGUN = "begun"
"""A job that may be queued was seen with a machine of its own."""

LAUNCHING = "launching"
"""The provider is asked for the job from here on."""

CUT_SHORT = "cut short"
"""A launch had no end, and no job of it was found: it is made again."""

LEAVING = "leaving"
"""A job without capacity is about to be let go of, for the run's next offer; the data say why."""

IN_VAIN = "in vain"
"""What a launch that came to nothing had made is gone again; the data say what it has cost."""

STAYS = "stays"
"""A queue would be left for another offer, and none can be had that keeps the limits."""

QUIET = frozenset({BEGUN, LEAVING})
"""What is written down for conductors, and told to nobody."""


def has(desk: Desk, job: JobRecord, kind: str) -> bool:
    """Whether the job has such an event."""
    return any(event.kind == kind for event in _of(desk, job))


def moved(desk: Desk) -> set[int]:
    """The run's jobs that found no capacity, and were left for its next offer."""
    events = desk.store.events(desk.run.id)
    return {event.job_id for event in events if event.kind == MOVED and event.job_id is not None}


def why_left(desk: Desk, job: JobRecord) -> str | None:
    """Why the job is being left; None where it is not."""
    left = (event for event in _of(desk, job) if event.kind == LEAVING)
    return next((str(event.data["why"]) for event in left), None)


def in_vain(desk: Desk) -> dict[int, Money]:
    """What the run's jobs have cost in launches that came to nothing, by job."""
    found: dict[int, Money] = {}
    for event in desk.store.events(desk.run.id):
        if event.kind == IN_VAIN and event.job_id is not None:
            cost = Money(Decimal(str(event.data["amount"])), str(event.data["currency"]))
            before = found.get(event.job_id)
            found[event.job_id] = cost if before is None else before + cost
    return found


def was_in_doubt(desk: Desk, job: JobRecord) -> bool:
    """Whether a launch of the job may ever have left something that is not known of.

    A doubt about the end of one that is being left is over once its release is confirmed.
    """
    for event in _of(desk, job):
        if event.kind == LEAVING:
            return False
        if event.kind == CUT_SHORT or event.data.get("exit_code") == MayStillBill.exit_code:
            return True
    return False


def _of(desk: Desk, job: JobRecord) -> list[Event]:
    return [event for event in desk.store.events(desk.run.id) if event.job_id == job.id]
