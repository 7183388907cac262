"""The software of a job for machines that nobody has seen: `bucket.attempt` looks at each."""

from __future__ import annotations

from dataclasses import dataclass, replace

from backends.job import Job
from backends.plan import RunPath
from backends.ssh.surroundings import bare_programs, making

OWN = "environment/own"
"""A file that `bucket.attempt` makes where the machine has all that is needed."""


@dataclass(frozen=True)
class Software:
    """What is decided here.

    job       the same job, with the step that makes an environment
    prefix    of that environment, below the folder that is ours; empty where none is made
    probe     distributions that a machine's own Python must have to be used as it is
    programs  commands that it must have
    lasting   variables, and the folders they name
    """

    job: Job
    prefix: str
    probe: tuple[str, ...]
    programs: tuple[str, ...]
    lasting: tuple[tuple[str, str], ...]


def unseen(job: Job, provider: str) -> Software:
    """Raises Refused when the lock cannot be read."""
    hints = job.environment.hints.get(provider, {})
    probe = tuple(hints.get("probe", "").split())
    pairs = (one.partition("=") for one in hints.get("lasting", "").split())
    lasting = tuple((name, folder) for name, _, folder in pairs)
    programs = tuple(bare_programs(job))
    if job.environment.lock is None:
        return Software(job, "", probe, programs, lasting)
    # Run directories are two folders below the one that is ours.
    made = making(
        job.environment.lock,
        hints,
        program="python3",
        below=lambda at: RunPath(f"../../{at}"),
    )
    step = replace(made.step, skip_if=OWN)
    with_step = replace(
        job,
        plan=replace(job.plan, steps=(step, *job.plan.steps)),
        inputs=(*job.inputs, made.files),
    )
    return Software(with_step, made.prefix, probe, programs, lasting)
