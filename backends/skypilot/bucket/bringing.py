"""From the bucket to a machine's disk: what a job was given, and what it left."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from . import ABOUT, RUN, WHOLE, of_content, of_job
from .objects import Objects, each

PRIVATE = frozenset({"lock", ".reserve"})
"""Of a run directory: what says that somebody works in it."""


class Torn(Exception):
    """Something in the bucket is not what it should be; the message is a sentence."""


def about(objects: Objects, job: str) -> dict[str, Any]:
    """What a job was given. Raises Torn where there is no such job."""
    try:
        found = json.loads(objects.read(of_job(job, ABOUT)))
    except FileNotFoundError:
        raise Torn(f"the bucket has no job {job!r}") from None
    return dict(found)


def bring(objects: Objects, job: str, root: Path) -> list[str]:
    """Lay a job out below `root/runs` as the bucket has it; the checkpoints that came whole.

    What it was given, what it left, and what it sees of earlier jobs and of caches. Again and again
    is fine. Raises Torn, and what `Objects` raises.
    """
    home = root / "runs" / job
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    given = about(objects, job)
    _fill(objects, home, given["files"])
    whole = _restore(objects, job, home, given)
    for at, earlier in given["attached"]:
        if not (root / "runs" / earlier).is_dir():
            bring(objects, earlier, root)
        _link(home / at, root / "runs" / earlier)
    for at, folder, files in given["caches"]:
        _fill(objects, root / "caches" / folder, files)
        _link(home / at, root / "caches" / folder)
    return whole


def _fill(objects: Objects, top: Path, files: list[list[Any]]) -> None:
    """Put files in their places; each is [place, bytes, sha256, mode]."""

    def one(file: list[Any]) -> None:
        at, size, sha256, mode = file
        target = top / at
        if target.is_file() and target.stat().st_size == size and digest(target) == sha256:
            return
        _take(objects, of_content(sha256), target, sha256)
        target.chmod(mode)

    each(one, files)


def _take(objects: Objects, name: str, target: Path, sha256: str | None) -> None:
    """Copy one object; it appears under its name only when it is whole. Raises Torn."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    partial.unlink(missing_ok=True)
    try:
        objects.get(name, partial)
    except FileNotFoundError:
        raise Torn(f"{target.name} is no longer in the bucket: another job took it away") from None
    if sha256 is not None and digest(partial) != sha256:
        partial.unlink()
        raise Torn(f"{target.name} in the bucket is not what it was")
    partial.replace(target)


def _restore(objects: Objects, job: str, home: Path, given: dict[str, Any]) -> list[str]:
    """What an earlier attempt left: of checkpoints those that were copied as a whole."""
    there = objects.sizes(of_job(job, RUN))
    whole = _whole(objects, job, there)
    plain = [
        name
        for name in there
        if checkpoint_of(name, given["checkpoint"]) is None and name not in PRIVATE
    ]
    each(lambda name: _take(objects, of_job(job, RUN, name), home / name, None), plain)
    for path in sorted(whole):
        files = whole[path]
        try:
            each(
                lambda file: _take(objects, of_job(job, RUN, file[0]), home / file[0], file[1]),
                [(f"{path}/{name}", sha256) for name, (_, sha256) in files.items()],
            )
        except Torn:
            # An older one does as well as none that can be read.
            shutil.rmtree(home / path, ignore_errors=True)
            del whole[path]
    return sorted(whole)


def _whole(objects: Objects, job: str, there: dict[str, int]) -> dict[str, dict[str, Any]]:
    """The checkpoints whose lists are there, and every file of the list as long as it says."""
    found = {}
    for name in objects.sizes(of_job(job, WHOLE)):
        path = name.removesuffix(".json")
        with contextlib.suppress(ValueError, AttributeError, TypeError, FileNotFoundError):
            files = json.loads(objects.read(of_job(job, WHOLE, name)))
            if all(there.get(f"{path}/{file}") == size for file, (size, _) in files.items()):
                found[path] = files
    return found


def _link(at: Path, target: Path) -> None:
    at.parent.mkdir(parents=True, exist_ok=True)
    if not at.is_symlink():
        at.symlink_to(target)


def checkpoint_of(name: str, rule: str | None) -> str | None:
    """The checkpoint that a file of a run directory is part of."""
    if rule is None:
        return None
    # Counted from the run directory: what an earlier job left lies deeper, and is an input.
    depth = len(Path(rule).parts)
    path = Path(name)
    up = Path(*path.parts[:depth])
    return str(up) if len(path.parts) > depth and up.match(rule) else None


def digest(path: Path) -> str:
    """The sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_below(top: Path) -> list[Path]:
    """Regular files below a folder, no links: what is linked is somebody else's."""
    found = []
    for at, names, files in os.walk(top):
        names[:] = [name for name in names if not (Path(at) / name).is_symlink()]
        for name in files:
            path = Path(at) / name
            if path.is_file() and not path.is_symlink() and not name.endswith(".partial"):
                found.append(path.relative_to(top))
    return found
