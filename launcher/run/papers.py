"""What travels with a job so that another computer can finish its run: `launcher.json`.

It holds the run, the job, and the jobs that are planned after it. Nothing in it is of use on the
first computer only: no path of it, and of secrets their names. What comes back from a machine is
not trusted either: a file is looked for where we put it, never where the machine says.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from pydantic import TypeAdapter

from backends.job import Cache, Environment, LocalFile, LocalTree
from backends.lease import Phase
from backends.offer import Offer
from launcher.environment.spec import lock_path
from launcher.run.desk import Desk
from launcher.run.spec import JobSpec, RunSpec, offer_from_json
from launcher.run.staging import stage
from launcher.store import JobRecord

AT = PurePosixPath("launcher.json")
"""Where they lie in the run directory."""

SCHEMA = 1

_RUN_ID = re.compile(r"[a-z0-9]{1,40}")
_KIND = re.compile(r"[a-z]{1,20}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Planned:
    """A job of the run: the one these papers are with, one it builds on, or one after it.

    id     what attachments of other jobs call it
    phase  how it stood when the papers were written
    """

    id: int
    name: str
    backend: str
    spec: JobSpec
    offer: Offer
    phase: Phase
    exit_code: int | None = None


@dataclass(frozen=True)
class Papers:
    """A run as it travels. `job` is the id of the job these papers are with.

    may_move: a training that is still to come may be taken to another provider by who began it,
    under another name: who adopts this job must not begin it.
    """

    run_id: str
    name: str
    recipe: str
    backend: str
    spec: RunSpec
    job: int
    jobs: tuple[Planned, ...]
    schema: int = SCHEMA
    may_move: bool = False

    @property
    def mine(self) -> Planned:
        """The job these papers are with."""
        return next(one for one in self.jobs if one.id == self.job)

    @property
    def later(self) -> tuple[Planned, ...]:
        """The jobs that are planned after it."""
        return tuple(one for one in self.jobs if one.id > self.job)


_PAPERS = TypeAdapter(Papers)


def with_job(desk: Desk, job: JobRecord, folder: Path) -> LocalFile:
    """The papers of a job that is about to be launched, as one more file of it."""
    jobs = desk.store.jobs(desk.run.id)
    needed = _needed(desk, job, jobs)
    papers = Papers(
        run_id=desk.run.id,
        name=desk.run.name,
        recipe=desk.run.recipe,
        backend=desk.run.backend,
        spec=_run_at(desk.settled, Path(), Path()),
        job=job.id,
        jobs=tuple(_planned(desk, one) for one in jobs if one.id in needed),
        may_move=bool(desk.settled.elsewhere),
    )
    return stage(folder, AT, _PAPERS.dump_json(papers))


def _needed(desk: Desk, job: JobRecord, jobs: Sequence[JobRecord]) -> set[int]:
    """The job, what is still to come after it, and all that they build on."""
    found = {job.id} | {one.id for one in jobs if one.id > job.id and one.ended_at is None}
    attached = {one.id: {a.job_id for a in desk.wanted(one).attach} for one in jobs}
    while more := {before for one in found for before in attached.get(one, set())} - found:
        found |= more
    return found


def _planned(desk: Desk, job: JobRecord) -> Planned:
    return Planned(
        id=job.id,
        name=job.name,
        backend=job.backend,
        spec=_job_at(desk.wanted(job), Path(), Path()),
        offer=offer_from_json(job.offer),
        phase=job.phase if job.ended_at is not None else Phase.QUEUED,
        exit_code=job.exit_code,
    )


def read(content: bytes, staged: Path) -> Papers | None:
    """Papers that came from a machine, with files where `staged` has or will have them.

    None for what is no such thing: nothing that it says could then be relied on.
    """
    try:
        papers = _PAPERS.validate_json(content)
    except ValueError:
        return None
    kinds = [one.spec.kind for one in papers.jobs]
    plain = (
        papers.schema == SCHEMA
        and _RUN_ID.fullmatch(papers.run_id)
        and all(map(_KIND.fullmatch, kinds))
        and any(one.id == papers.job for one in papers.jobs)
        and all(_SHA256.fullmatch(file.sha256) for file in _files(papers))
    )
    if not plain:
        return None
    locks = lock_path("cpu").parent
    jobs = tuple(replace(one, spec=_job_at(one.spec, staged, locks)) for one in papers.jobs)
    return replace(papers, spec=_run_at(papers.spec, staged, locks), jobs=jobs)


def _files(papers: Papers) -> list[LocalFile]:
    found = [*papers.spec.small, *papers.spec.data]
    caches = list(papers.spec.caches)
    for one in papers.jobs:
        found += one.spec.files
        caches += one.spec.caches
    return found + [file for cache in caches for file in cache.tree.files]


def _run_at(spec: RunSpec, staged: Path, locks: Path) -> RunSpec:
    return replace(
        spec,
        elsewhere=(),  # a machine has no say in what else is rented
        left_out=(),
        workload=None,
        small=_at(spec.small, staged),
        data=_at(spec.data, staged),
        caches=_caches_at(spec.caches, staged),
        environment=_software(spec.environment, locks),
    )


def _job_at(spec: JobSpec, staged: Path, locks: Path) -> JobSpec:
    return replace(
        spec,
        files=_at(spec.files, staged),
        caches=_caches_at(spec.caches, staged),
        environment=_software(spec.environment, locks),
    )


def _at(files: Sequence[LocalFile], staged: Path) -> tuple[LocalFile, ...]:
    return tuple(replace(file, here=staged / file.sha256) for file in files)


def _caches_at(caches: Sequence[Cache], staged: Path) -> tuple[Cache, ...]:
    return tuple(replace(cache, tree=LocalTree(_at(cache.tree.files, staged))) for cache in caches)


def _software(environment: Environment, locks: Path) -> Environment:
    """An installed environment is of one computer only; a lock is in every ftlaunch."""
    lock = environment.lock
    return replace(environment, prefix=None, lock=None if lock is None else locks / lock.name)
