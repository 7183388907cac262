"""Events that decide where a run goes: what no later conductor may forget of a job."""

from __future__ import annotations

from launcher.run.desk import Desk
from launcher.store import JobRecord

MOVED = "elsewhere"
"""A job was refused, and its run went on; the data say what refused it, and why."""

BEGUN = "begun"
"""A job that may be queued was seen with a machine of its own."""

QUIET = frozenset({BEGUN})
"""What is written down for conductors, and told to nobody."""


def has(desk: Desk, job: JobRecord, kind: str) -> bool:
    """Whether the job has such an event."""
    events = desk.store.events(desk.run.id)
    return any(event.kind == kind and event.job_id == job.id for event in events)
