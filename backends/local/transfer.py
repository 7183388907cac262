"""Files of a run directory, read in place or copied out whole."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import stat
import time
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from backends import rundir
from backends.errors import Lost, Refused
from backends.local.copying import CHUNK_BYTES, clone, digest_of

_POLL_S = 0.1
_SILENCE_S = 0.5


def opened(home: Path, path: PurePosixPath) -> BinaryIO:
    """A file of the run directory, open for reading. Raises Lost when there is no such file.

    A link is followed: the job sees the file, so its owner may. A path that climbs out of the run
    directory is no file of it.
    """
    if path.is_absolute() or ".." in path.parts:
        raise Lost(f"{str(path)!r} is not inside the run directory")
    try:
        here = home / path
        if not stat.S_ISREG(here.stat().st_mode):
            raise Lost(f"{str(path)!r} is not a file")
        return here.open("rb")
    except (OSError, ValueError) as error:
        raise Lost(f"there is no file {str(path)!r} among the files of {home.name}") from error


def chunks(file: BinaryIO, *, offset: int, follow: bool) -> Iterator[bytes]:
    """The bytes from `offset` on; closes the file. See `Backend.read`."""
    with file:
        file.seek(offset)
        quiet_since = time.monotonic()
        while True:
            if chunk := file.read(CHUNK_BYTES):
                yield chunk
                quiet_since = time.monotonic()
            elif not follow:
                return
            elif time.monotonic() - quiet_since >= _SILENCE_S:
                yield b""
                quiet_since = time.monotonic()
            else:
                time.sleep(_POLL_S)


def listing(home: Path) -> dict[PurePosixPath, int]:
    """Every regular file below the run directory with its size; links are passed over."""
    found = {}
    for folder, _, names in os.walk(home):
        for name in names:
            here = Path(folder) / name
            with contextlib.suppress(FileNotFoundError):
                status = here.lstat()
                if stat.S_ISREG(status.st_mode):
                    found[PurePosixPath(here.relative_to(home))] = status.st_size
    return found


def promised(home: Path) -> dict[PurePosixPath, str]:
    """The digests the manifest vouches for; empty while there is none."""
    try:
        manifest = rundir.parse_manifest((home / rundir.MANIFEST).read_bytes())
    except OSError:
        return {}
    return {} if manifest is None else {file.path: file.sha256 for file in manifest.files}


def fetch(home: Path, paths: Sequence[PurePosixPath], into: Path) -> None:
    """Copy files to `into`; see `Backend.fetch`."""
    sha256 = promised(home)
    for path in paths:
        with opened(home, path) as source:
            _bring(source, into / path, sha256.get(path))


def _bring(source: BinaryIO, target: Path, sha256: str | None) -> None:
    try:
        if target.is_dir():
            raise Refused(f"{str(target)!r} is a folder, where a file should come")
        target.parent.mkdir(parents=True, exist_ok=True)
        with _part_of(target) as (part, name):
            if _same_content(source, target):
                name.unlink()
                return
            _complete(part, source)
            _verify(name, sha256, target)
            os.fsync(part.fileno())
            name.replace(target)
    except OSError as error:
        raise Refused(
            f"{str(target)!r} cannot be written: {error.strerror}",
            hint="what has arrived stays; make it possible and fetch again",
        ) from error


@contextlib.contextmanager
def _part_of(target: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """The unfinished copy of a file, open and locked: of two who fetch the same, one waits.

    It is named by a digest, because a name may be as long as the disk allows already.
    """
    digest = hashlib.sha256(os.fsencode(target.name)).hexdigest()[:16]
    name = target.with_name(f".{digest}.part")
    while True:
        part = os.fdopen(os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666), "r+b")
        with part:
            fcntl.flock(part, fcntl.LOCK_EX)
            if _is_at(part, name):
                yield part, name
                return


def _is_at(part: BinaryIO, name: Path) -> bool:
    """False when the file was renamed or removed while its lock was waited for."""
    try:
        return os.path.samestat(name.stat(), os.fstat(part.fileno()))
    except FileNotFoundError:
        return False


def _complete(part: BinaryIO, source: BinaryIO) -> None:
    """Make `part` equal to `source`, keeping the bytes at its beginning that are right already."""
    source.seek(0)
    part.seek(0, os.SEEK_END)
    if part.tell() == 0 and clone(source, part):
        return
    part.seek(0)
    right = 0
    while (have := part.read(CHUNK_BYTES)) and have == source.read(len(have)):
        right += len(have)
    source.seek(right)
    part.seek(right)
    part.truncate()
    while chunk := source.read(CHUNK_BYTES):
        part.write(chunk)
    part.flush()


def _verify(name: Path, sha256: str | None, target: Path) -> None:
    if sha256 is None:
        return
    if digest_of(name) != sha256:
        name.unlink()
        raise Lost(f"{target.name!r} is no longer what its manifest says it was")


def _same_content(source: BinaryIO, target: Path) -> bool:
    try:
        with target.open("rb") as there:
            if os.fstat(there.fileno()).st_size != os.fstat(source.fileno()).st_size:
                return False
            source.seek(0)
            while chunk := source.read(CHUNK_BYTES):
                if there.read(len(chunk)) != chunk:
                    return False
    except FileNotFoundError:
        return False
    return True
