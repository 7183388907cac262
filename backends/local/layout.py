"""Laying out what a job was given: copied and checked, linked, or taken from a cache."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path, PurePosixPath

from backends import rundir
from backends.errors import Refused
from backends.job import Attached, Cache, Job, LocalTree
from backends.local import caches, copying
from backends.local.shelf import RECORD, Shelf
from backends.protocol import Progress

_FOLDERS = (rundir.BUNDLE, rundir.INPUTS, rundir.OUTPUT)
_RESERVED = frozenset({*(path.name for path in rundir.TOP), RECORD})


class _Meter:
    """Adds up what has been copied and passes it on."""

    def __init__(self, total: int, progress: Progress) -> None:
        self._done = 0
        self._total = total
        self._progress = progress

    def __call__(self, count: int) -> None:
        self._done += count
        self._progress("laying out the job's files", done=self._done, total=self._total)


def lay(shelf: Shelf, home: Path, job: Job, progress: Progress) -> None:
    """Put everything the job was given into its run directory.

    Raises Refused for a file that is gone, that is not what it was when the job was planned, or
    that has no room; OSError for what this machine will not do.
    """
    trees = [tree for tree in job.inputs if isinstance(tree, LocalTree)]
    missing = [cache for cache in job.caches if not caches.held(shelf, cache)]
    _require_room(home, job, trees, missing)
    meter = _Meter(sum(t.size_bytes for t in [*trees, *(c.tree for c in missing)]), progress)
    for folder in _FOLDERS:
        (home / folder).mkdir(mode=0o700)
    try:
        for tree in trees:
            for file in tree.files:
                copying.copy_checked(file, _place(home, file.at), meter)
        for item in job.inputs:
            if isinstance(item, Attached):
                _place(home, item.at).symlink_to(attached_home(shelf, item))
        for cache in job.caches:
            _place(home, cache.at).symlink_to(caches.ensure(shelf, cache, meter))
    except FileExistsError as error:
        raise Refused(
            f"two inputs of the job want the same place: {error.filename2 or error.filename}"
        ) from error
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        raise Refused(f"the disk of {shelf.root} is full", hint="make room there") from error


def attached_home(shelf: Shelf, item: Attached) -> Path:
    """The run directory that an input names; Refused when it is no longer here."""
    record = shelf.find(item.files.id)
    if record is None:
        raise Refused(
            f"the files of the earlier job {item.files.id!r} are no longer on this machine",
            hint="run the earlier job again",
        )
    return shelf.home(record.job)


def _place(home: Path, at: PurePosixPath) -> Path:
    """Where `at` is in the run directory, its folder made; Refused for a place outside."""
    if at.is_absolute() or not at.parts or ".." in at.parts or at.parts[0] in _RESERVED:
        raise Refused(f"{str(at)!r} is no place for an input in a run directory")
    target = home / at
    folder = home
    for part in at.parts[:-1]:
        folder /= part
        folder.mkdir(mode=0o700, exist_ok=True)
    return target


def _require_room(home: Path, job: Job, trees: list[LocalTree], missing: list[Cache]) -> None:
    needed = sum(tree.size_bytes for tree in trees) + job.plan.disk_reserve_bytes
    needed += sum(c.tree.size_bytes for c in missing if not caches.linkable(home, c))
    free = shutil.disk_usage(home).free
    if free < needed:
        raise Refused(
            f"the job's files take {needed} bytes, and the disk of {home} has {free} free",
            hint="make room there, or keep ftlaunch's state on another disk",
        )
