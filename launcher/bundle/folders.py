"""Reading what travels from this machine's disk: listing folders and hashing files."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from backends.errors import Refused
from backends.job import Cache, LocalFile, LocalTree
from backends.protocol import Progress, silent
from launcher.recipe.references import Kind
from launcher.wording import shown


@dataclass(frozen=True)
class Found:
    """A file below a folder, or a file by itself (then `inside` is `.`)."""

    here: Path
    inside: PurePosixPath


_NEVER = re.compile(r"\.git|\.cache|__pycache__")
_LEFT_OUT = {
    Kind.DATA: re.compile(r"[.].*|__.*"),  # the datasets library does not read these either
    Kind.MODEL: re.compile(r"checkpoint-\d+"),
    Kind.ADAPTER: re.compile(r"checkpoint-\d+|merged|runs"),
    Kind.INCLUDE: re.compile(r"[.].*"),
}
"""What lies in a folder of that kind without belonging to it: an earlier run's checkpoints, …"""


def listing(path: Path, kind: Kind, *, where: str) -> list[Found]:
    """Every file at or below `path`, links followed, in the order of their names.

    `where` begins the message of Refused, which is raised for what cannot travel: a link to
    nothing or to itself, a device, a name that is not valid Unicode.
    """
    return list(_walk(Found(path, PurePosixPath()), (), kind, where))


def _walk(at: Found, above: tuple[tuple[int, int], ...], kind: Kind, where: str) -> Iterator[Found]:
    path = at.here
    try:
        status = path.stat()
        names = sorted(os.listdir(path)) if stat.S_ISDIR(status.st_mode) else []  # noqa: PTH208
    except OSError as problem:
        what = (
            "is a link to nothing" if path.is_symlink() else f"cannot be read: {problem.strerror}"
        )
        raise Refused(f"{where}: {shown(path)} {what}") from None
    if stat.S_ISREG(status.st_mode):
        yield at
        return
    if not stat.S_ISDIR(status.st_mode):
        raise Refused(
            f"{where}: {shown(path)} is a device, pipe or socket, which cannot travel",
            hint="save its content as a file",
        )
    mark = (status.st_dev, status.st_ino)
    if mark in above:
        raise Refused(f"{where}: {shown(path)} is a link to a folder that it lies in")
    left_out = _LEFT_OUT.get(kind)
    for name in names:
        if _NEVER.fullmatch(name) or (left_out is not None and left_out.fullmatch(name)):
            continue
        require_unicode(name, path, where)
        yield from _walk(Found(path / name, at.inside / name), (*above, mark), kind, where)


def require_unicode(name: str, folder: Path, where: str) -> None:
    """Refuse a name of bytes that are not UTF-8: a config and a plan are text."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        raise Refused(
            f"{where}: the name {shown(name)} in {shown(folder)} is not valid UTF-8",
            hint="rename the file",
        ) from None


def read(found: Found, at: PurePosixPath, *, where: str) -> LocalFile:
    """The file with its size and digest, to be laid out at `at`; read once, in small pieces."""
    try:
        with found.here.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256")
            size = file.tell()
    except OSError as problem:
        raise Refused(f"{where}: {shown(found.here)} cannot be read: {problem.strerror}") from None
    return LocalFile(here=found.here, at=at, size_bytes=size, sha256=digest.hexdigest())


def size_of(found: list[Found]) -> int:
    """The sum of the files' sizes now, in bytes; a file that has just gone counts as nothing."""
    return sum(each.here.stat().st_size for each in found if each.here.exists())


def cache_of(
    folder: Path,
    *,
    at: PurePosixPath,
    kind: Kind = Kind.MODEL,
    where: str = "",
    progress: Progress = silent,
) -> Cache:
    """A folder as a `Cache`; its files' places are relative to the folder itself."""
    found = listing(folder, kind, where=where or shown(folder))
    tell = told(progress, size_of(found))
    files = []
    for each in found:
        files.append(read(each, each.inside, where=where or shown(folder)))
        tell(files[-1])
    return Cache(key=key_of(files), tree=LocalTree(tuple(files)), at=at)


def key_of(files: list[LocalFile]) -> str:
    """The digest of a folder's content: of every file's path, size and digest, sorted."""
    digest = hashlib.sha256()
    for line in sorted(f"{file.sha256} {file.size_bytes} {file.at}\0" for file in files):
        digest.update(line.encode())
    return digest.hexdigest()


def told(progress: Progress, total: int) -> Callable[[LocalFile], None]:
    """A function that reports, file by file, how much of `total` bytes has been read."""
    read_bytes = 0

    def tell(file: LocalFile) -> None:
        nonlocal read_bytes
        read_bytes += file.size_bytes
        progress("reading what travels", done=min(read_bytes, total), total=total)

    return tell
