"""A job whose run directory is kept in a bucket: what its machine runs, and the bucket's layout.

This package is used here, and travels to the machine as a zip under another name: it imports from
itself only, by relative imports, and besides the standard library nothing but fsspec and the
file system that the bucket's address names (`*.txt` are the pins of each).

Below the address that the user gave:
    files/SHA256       what jobs were given: each content once, however many jobs have it
    jobs/JOB/about     what the job was given and what its machine needs to know; no secret
    jobs/JOB/half      one half of its secrets; the other is with SkyPilot (`halves`)
    jobs/JOB/asked     the last wish of the user's
    jobs/JOB/run/…     the run directory, as it was seconds ago
    jobs/JOB/whole/…   one list of files for each checkpoint that was copied as a whole

An object is there whole or not at all, which is all that a bucket promises. So the list of a
checkpoint is written after its files, and a verdict after everything else.
"""

from __future__ import annotations

ABOUT, HALF, ASKED, RUN, WHOLE = "about", "half", "asked", "run", "whole"
JOBS, FILES = "jobs", "files"
HALF_NAME = "FTLAUNCH_BUCKET_HALF"
"""The variable of SkyPilot's task that has the other half."""


def of_job(job: str, *parts: str) -> str:
    """The name of something of a job's."""
    return "/".join((JOBS, job, *parts))


def of_content(sha256: str) -> str:
    """The name of a content that jobs were given."""
    return f"{FILES}/{sha256}"
