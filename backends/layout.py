"""Where everything of a job belongs on the machine, and what cannot be, told before anything moves.

`backends.local.layout` is the reference: the same is refused, in the same words.
"""

from __future__ import annotations

import hashlib
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from backends import rundir
from backends.errors import Refused
from backends.job import Attached, Cache, Job, LocalFile, LocalTree

FOLDERS = (rundir.BUNDLE, rundir.INPUTS, rundir.OUTPUT)
NOTE = "place.json"
"""What `place.py` notes in a run directory: which variables of the machine a job was given."""

_RESERVED = frozenset({*(path.name for path in rundir.TOP), NOTE})
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")
_JOB = re.compile(r"[a-z0-9][a-z0-9-]*")


@dataclass(frozen=True)
class Layout:
    """What goes where in a run directory.

    files     what is sent
    attached  place, and the name of the earlier job that is seen there
    caches    place, and the cache that is seen there
    """

    files: tuple[LocalFile, ...]
    attached: tuple[tuple[PurePosixPath, str], ...]
    caches: tuple[tuple[PurePosixPath, Cache], ...]

    @property
    def links(self) -> list[str]:
        """The places of all that is seen and not sent."""
        return [str(at) for at, _ in (*self.attached, *self.caches)]


def layout(job: Job) -> Layout:
    """The layout of a job. Raises Refused for what cannot be, or is not as it was planned."""
    found = Layout(
        files=tuple(f for tree in job.inputs if isinstance(tree, LocalTree) for f in tree.files),
        attached=tuple(
            (item.at, job_of(item)) for item in job.inputs if isinstance(item, Attached)
        ),
        caches=tuple((cache.at, cache) for cache in job.caches),
    )
    places = [file.at for file in found.files]
    places += [at for at, _ in (*found.attached, *found.caches)]
    for at in places:
        require_inside(at, reserved=_RESERVED)
    require_apart([*FOLDERS, *places], folders=len(FOLDERS))
    for file in (*found.files, *(file for _, cache in found.caches for file in cache.tree.files)):
        require_there(file)
    for _, cache in found.caches:
        for file in cache.tree.files:
            require_inside(file.at, what="a file in a cache")
        require_apart([file.at for file in cache.tree.files])
    return found


def job_of(item: Attached) -> str:
    """The name of the earlier job whose files are attached. Raises Refused when it cannot be."""
    name = item.files.data.get("job", item.files.id)
    if not _JOB.fullmatch(name):
        raise Refused(f"{name!r} is no job whose files could be attached")
    return name


def cache_folder(cache: Cache) -> str:
    """The name of a cache's folder."""
    if _PLAIN_KEY.fullmatch(cache.key) and not cache.key.endswith(".lock"):
        return cache.key
    return hashlib.sha256(cache.key.encode("utf-8", "surrogateescape")).hexdigest()


def require_inside(
    at: PurePosixPath,
    *,
    reserved: frozenset[str] = frozenset(),
    what: str = "an input in a run directory",
) -> None:
    """Raises Refused for a place outside, or one that belongs to the runner."""
    if at.is_absolute() or not at.parts or ".." in at.parts or at.parts[0] in reserved:
        raise Refused(f"{str(at)!r} is no place for {what}")


def require_apart(places: Sequence[PurePosixPath], *, folders: int = 0) -> None:
    """Raises Refused when two want one place, or one lies inside another.

    folders  so many of the first are folders, in which others may lie
    """
    seen = set(places[:folders])
    solid = set(places[folders:])
    for at in places[folders:]:
        if at in seen:
            raise Refused(f"two inputs of the job want the same place: {at}")
        seen.add(at)
        inside = next((above for above in at.parents if above in solid), None)
        if inside is not None:
            raise Refused(f"two inputs of the job want the same place: {at} lies in {inside}")


def require_there(file: LocalFile) -> None:
    """Raises Refused when a file is gone, is none, or plainly has changed."""
    try:
        status = file.here.stat()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise Refused(f"{str(file.here)!r} cannot be read: {why}") from error
    if not stat.S_ISREG(status.st_mode):
        raise Refused(f"{str(file.here)!r} is not a regular file, so it cannot travel")
    if status.st_size != file.size_bytes:
        raise Refused(
            f"{str(file.here)!r} has changed since the job was planned",
            hint="start again: the plan is then made from the file as it is now",
        )
