"""What a machine is called at the provider: the only tag there is."""

from __future__ import annotations

import hashlib

PREFIX = "ftl-"
"""Machines whose names begin so may be ours; only those with a record are treated as ours."""

_LONGEST = 40


def name_of(job: str) -> str:
    """The machine's name for a job: the job's own, marked as ours, at most 40 characters."""
    name = job if job.startswith(PREFIX) else PREFIX + job
    if len(name) <= _LONGEST:
        return name
    digest = hashlib.sha256(job.encode()).hexdigest()[:8]
    return f"{name[: _LONGEST - 9]}-{digest}"


def is_ours(name: str) -> bool:
    """Whether a machine's name may be one of ours."""
    return name.startswith(PREFIX)
