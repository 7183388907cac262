"""More jobs for a run whose training is over: what they start from."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from backends.errors import BadInput, Lost, Refused
from backends.lease import Phase
from launcher.run import inventory, spec
from launcher.run.again import train_again
from launcher.run.loaded import Backends
from launcher.run.spec import RunSpec
from launcher.store import JobRecord, RunRecord, Store


def settled(store: Store, run: RunRecord) -> RunSpec:
    """The run's settled recipe."""
    return spec.run_from_json(store.run_spec(run.id))


def last_event(store: Store, run: RunRecord) -> int:
    """Where a follower of only what comes now begins."""
    events = store.events(run.id)
    return events[-1].id if events else 0


def require_idle(store: Store, run: RunRecord) -> None:
    """Raises BadInput while a job of the run is open."""
    for job in store.jobs(run.id):
        if job.open:
            raise BadInput(
                f"{run.name} is still busy with {job.kind}",
                hint=f"wait for it with: ftlaunch wait {run.name}",
            )


def trained(store: Store, run: RunRecord, backends: Backends) -> JobRecord:
    """The job whose output is the run's model: the last training that left an adapter or a model.

    Raises BadInput when the run has not trained, Lost when nothing of it is left.
    """
    jobs = _trainings(store, run)
    if not jobs:
        raise BadInput(f"{run.name} has not trained anything")
    for job in reversed(jobs):
        if _is_anywhere(run, job) and (
            job.phase is Phase.SUCCEEDED or _has_model(run, backends, job)
        ):
            return job
    raise Lost(
        f"no training of {run.name} left a model",
        hint=f"go on from a checkpoint, if there is one, with: ftlaunch resume {run.name}",
    )


def _trainings(store: Store, run: RunRecord) -> list[JobRecord]:
    return [job for job in store.jobs(run.id) if job.kind == "train" and job.launched_at]


def _is_anywhere(run: RunRecord, job: JobRecord) -> bool:
    """Whether its files are at the provider, or its results here."""
    return job.files is not None or inventory.inventory_here(run, job) is not None


def _has_model(run: RunRecord, backends: Backends, job: JobRecord) -> bool:
    if job.files is None:
        entries = inventory.inventory_here(run, job) or []
    else:
        try:
            entries, _ = inventory.inventory(backends.of(job), job.files)
        except Lost:
            return False
    return any(
        entry.path.parent == PurePosixPath("output")
        and entry.path.suffix in {".safetensors", ".bin"}
        and entry.path.name.startswith(("adapter_model", "model", "pytorch_model"))
        for entry in entries
    )


def resumable(
    store: Store, run: RunRecord, backends: Backends, settled: RunSpec
) -> tuple[JobRecord, str]:
    """The training to go on from, and its newest complete checkpoint.

    A training that ended before its first checkpoint is passed over for the one before it.
    Raises Refused when there is no complete checkpoint, or when
    a file of the recipe is no longer what it was.
    """
    for before in reversed(_trainings(store, run)):
        newest = _checkpoint(run, backends, before)
        if newest is not None:
            _require_same(settled)
            return before, newest
    raise Refused(
        f"{run.name} has no complete checkpoint to go on from",
        hint=f"train it again with: {train_again(store, run)}",
    )


def _checkpoint(run: RunRecord, backends: Backends, job: JobRecord) -> str | None:
    """A job's newest complete checkpoint, at its provider or as it was pulled."""
    if job.files is not None:
        return inventory.newest_checkpoint(inventory.state(backends.of(job), job.files))
    entries = inventory.inventory_here(run, job) or []
    rows = [
        {"path": str(path), "complete": _complete(run, job, path, entries)}
        for path in {PurePosixPath(*entry.path.parts[:2]) for entry in entries}
        if path.name.startswith("checkpoint-")
    ]
    return inventory.newest_checkpoint({"checkpoints": rows})


def _complete(
    run: RunRecord, job: JobRecord, path: PurePosixPath, entries: Sequence[inventory.Entry]
) -> bool:
    """Whether a checkpoint that was pulled is whole: by the job's own rule, and all of it here."""
    mine = [entry.path for entry in entries if entry.path.is_relative_to(path)]
    names = [str(file.relative_to(path)) for file in mine]
    rule = spec.job_from_json(job.spec).plan.checkpoint
    here = inventory.home(run, job)
    return (
        rule is not None
        and all((here / file).is_file() for file in mine)
        and all(
            any(fnmatchcase(name, glob) for name in names for glob in group)
            for group in rule.requires
        )
    )


def _require_same(settled: RunSpec) -> None:
    import hashlib

    for file in (*settled.small, *settled.data):
        try:
            with file.here.open("rb") as content:
                same = hashlib.file_digest(content, "sha256").hexdigest() == file.sha256
        except OSError:
            same = False
        if not same:
            raise Refused(
                f"{file.here} is not what it was when the run began",
                hint="put it back, or begin anew with: ftlaunch train",
            )
