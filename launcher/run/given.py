"""What a job gets from earlier ones: where the provider holds it in place, else what was pulled."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

from backends.errors import Lost, Refused
from backends.job import Attached, LocalFile, LocalTree
from launcher.run.again import train_again
from launcher.run.desk import Desk
from launcher.run.inventory import Entry, home, inventory_here, selected
from launcher.run.pull import is_same
from launcher.run.spec import AttachJob
from launcher.store import JobRecord

_RESULTS = ("output/**", "!output/checkpoint-*/**", "!output/debug.log")
"""What a later job needs of an earlier one when nothing is said: not its checkpoints."""


def there(desk: Desk, job: JobRecord, attach: AttachJob) -> bool:
    """Whether an earlier job's files can be had at all: at the provider, or here."""
    before = desk.store.job(attach.job_id)
    return _held(before, job) or inventory_here(desk.run, before) is not None


def given(desk: Desk, job: JobRecord, attach: AttachJob) -> Attached | LocalTree:
    """An earlier job's files as an input of this one.

    Raises Lost when they are nowhere, Refused when what was pulled has changed since.
    """
    before = desk.store.job(attach.job_id)
    if before.files is not None and _held(before, job):
        return Attached(before.files, attach.at)
    entries = inventory_here(desk.run, before)
    if entries is None:
        raise Lost(f"the files of {desk.run.name!r} are gone")
    brought = desk.wanted(before).pull
    wanted = [entry for entry in entries if _needed(entry.path, attach.needs, brought)]
    if not wanted:
        raise Lost(
            f"{before.kind} of {desk.run.name!r} left nothing here to go on from",
            hint=f"train it again with: {train_again(desk.store, desk.run)}",
        )
    return LocalTree(tuple(_file(desk, before, attach, entry) for entry in wanted))


def _held(before: JobRecord, job: JobRecord) -> bool:
    return before.files is not None and before.backend == job.backend


def _needed(path: PurePosixPath, needs: PurePosixPath | None, brought: Sequence[str]) -> bool:
    """Of the results only what was pulled: the manifest lists more where `artifacts` takes less."""
    if needs is not None:
        return path.is_relative_to(needs)
    return selected(path, _RESULTS) and selected(path, brought)


def _file(desk: Desk, before: JobRecord, attach: AttachJob, entry: Entry) -> LocalFile:
    here = home(desk.run, before) / entry.path
    if entry.sha256 is None or not is_same(here, entry):
        raise Refused(
            f"{here} is not what it was when it was pulled",
            hint=f"put it back, or train again with: {train_again(desk.store, desk.run)}",
        )
    return LocalFile(here, attach.at / entry.path, entry.size_bytes, entry.sha256)
