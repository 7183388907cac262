"""Copies of files that are what they are said to be."""

from __future__ import annotations

import fcntl
import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from backends.errors import Refused
from backends.job import LocalFile

CHUNK_BYTES = 1 << 20
_FICLONE = 0x40049409  # from linux/fs.h; fcntl has it from Python 3.12 on


def copy_checked(file: LocalFile, target: Path, told: Callable[[int], None]) -> None:
    """Copy one file, private, and be sure that its content is what was promised.

    Raises Refused, naming the file, when it is gone, is no regular file, or has changed;
    FileExistsError when something stands in its place.
    """
    with open_checked(file) as source, create(target, like=source) as out:
        cloned = clone(source, out)
        digest = hashlib.sha256()
        while chunk := source.read(CHUNK_BYTES):
            digest.update(chunk)
            if not cloned:
                out.write(chunk)
            told(len(chunk))
    require_content(file, digest.hexdigest())


def open_checked(file: LocalFile) -> BinaryIO:
    """Open a file for reading; Refused when there is none, or it is a pipe or a folder."""
    try:
        # Looked at first: opening a pipe waits for a writer.
        if not stat.S_ISREG(file.here.stat().st_mode):
            raise Refused(f"{str(file.here)!r} is not a regular file, so it cannot travel")
        return file.here.open("rb")
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise Refused(f"{str(file.here)!r} cannot be read: {why}") from error


def require_content(file: LocalFile, sha256: str) -> None:
    """Refused when the content met is not the content planned."""
    if sha256 != file.sha256:
        raise Refused(
            f"{str(file.here)!r} has changed since the job was planned",
            hint="start again: the plan is then made from the file as it is now",
        )


def create(target: Path, *, like: BinaryIO) -> BinaryIO:
    """A new private file, executable for its owner if `like` is."""
    executable = os.fstat(like.fileno()).st_mode & stat.S_IXUSR
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    return os.fdopen(os.open(target, flags, 0o700 if executable else 0o600), "wb")


def clone(source: BinaryIO, target: BinaryIO) -> bool:
    """Let both files share their blocks until one is written; False where the disk cannot."""
    try:
        fcntl.ioctl(target.fileno(), _FICLONE, source.fileno())
    except OSError:
        return False
    return True


def digest_of(path: Path, told: Callable[[int], None] = lambda _count: None) -> str:
    """The sha256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            told(len(chunk))
    return digest.hexdigest()
