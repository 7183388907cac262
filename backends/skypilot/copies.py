"""Kept files of clusters whose disk goes with them: copied to this computer before that."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from backends.errors import Lost
from backends.job import LocalFile
from backends.protocol import silent
from backends.ssh.workplace import Workplace

_CHUNK = 1 << 20
_SILENCE_S = 0.5


class Copies:
    """Run directories below one folder, each under its job's name. Nothing in them changes."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def has(self, job: str) -> bool:
        """Whether all of a job's files are here."""
        return (self._root / job).is_dir()

    def take(self, job: str, place: Workplace) -> None:
        """Copy every file of a job, and go on where an earlier copy broke off.

        Raises what `Workplace.listing` and `Workplace.fetch` raise.
        """
        if self.has(job):
            return
        begun = self._root / f".{job}"
        begun.mkdir(mode=0o700, parents=True, exist_ok=True)
        place.fetch(job, list(place.listing(job)), begun, told=silent)
        begun.rename(self._root / job)

    def forget(self, job: str) -> None:
        """Remove what is here of a job."""
        for folder in (self._root / job, self._root / f".{job}"):
            shutil.rmtree(folder, ignore_errors=True)

    def listing(self, job: str) -> Mapping[PurePosixPath, int]:
        """See `Backend.listing`."""
        top = self._root / job
        return {
            PurePosixPath(path.relative_to(top).as_posix()): path.stat().st_size
            for path in top.rglob("*")
            if path.is_file()
        }

    def read(self, job: str, path: PurePosixPath, *, offset: int, follow: bool) -> Iterator[bytes]:
        """See `Backend.read`: a file that grows no more, and then silence."""
        return _chunks(self._file(job, path), offset, follow=follow)

    def fetch(self, job: str, paths: Sequence[PurePosixPath], into: Path) -> None:
        """See `Backend.fetch`."""
        for path in paths:
            source, target = self._file(job, path), into / path
            if target.is_file() and _digest(target) == _digest(source):
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_name(f".{target.name}.{os.urandom(4).hex()}")
            shutil.copyfile(source, partial)
            partial.replace(target)

    def files(self, job: str) -> tuple[LocalFile, ...]:
        """All of a job's files, to be sent to another cluster."""
        top = self._root / job
        return tuple(
            LocalFile(top / at, at, size, _digest(top / at))
            for at, size in self.listing(job).items()
        )

    def _file(self, job: str, path: PurePosixPath) -> Path:
        found = self._root / job / path
        if not found.is_file():
            raise Lost(f"there is no file {str(path)!r} among the files of {job}")
        return found


def _digest(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _chunks(path: Path, offset: int, *, follow: bool) -> Iterator[bytes]:
    with path.open("rb") as content:
        content.seek(offset)
        while chunk := content.read(_CHUNK):
            yield chunk
    while follow:
        time.sleep(_SILENCE_S)
        yield b""
