"""Unfinished copies on this machine: locked, continued, and named when they are whole.

An unfinished copy lies beside the file it will be, under a short name made from a digest, because a
name may be as long as the disk allows already.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from backends.errors import Refused
from backends.ssh.frames import PART_BYTES, Buffer

_CHUNK_BYTES = 1 << 20
_WRITE_BYTES = 1 << 18
"""As `far.WRITE`."""


class Unfinished:
    """A copy that is being made, by one process at a time."""

    def __init__(self, target: Path, name: str, descriptor: int) -> None:
        self.target = target
        self._name = name
        self._file = descriptor

    @classmethod
    def open(cls, target: Path, *, anew: bool = True) -> Self | None:
        """The copy begun earlier, or a new one; None while another process makes it.

        anew  when False, only one that was begun, or None
        """
        folder, last = os.path.split(target)
        digest = hashlib.sha256(os.fsencode(last)).hexdigest()[:16]
        # Not a Path: for small files, making and reading those took a fifth of the time.
        name = os.path.join(folder, f".{digest}.part")  # noqa: PTH118
        while True:
            flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | (os.O_CREAT if anew else 0)
            try:
                descriptor = os.open(name, flags, 0o666)
            except FileNotFoundError:
                if anew:
                    raise
                return None
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                return None
            # It may have been finished between the opening and the locking.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.stat(name), os.fstat(descriptor)):  # noqa: PTH116
                    return cls(target, name, descriptor)
            os.close(descriptor)

    @property
    def size_bytes(self) -> int:
        """How much is there; perhaps with holes."""
        return os.fstat(self._file).st_size

    def write(self, content: Buffer, offset: int) -> None:
        """Put something in its place. Any thread may."""
        view = memoryview(content)
        while view:
            count = os.pwrite(self._file, view[:_WRITE_BYTES], offset)
            offset += count
            view = view[count:]

    def part(self, number: int) -> bytes:
        """One part, as far as it is there."""
        return os.pread(self._file, PART_BYTES, number * PART_BYTES)

    def part_digests(self) -> list[str]:
        """The sha256 of each part, as far as it goes."""
        numbers = range(part_count(self.size_bytes))
        return [hashlib.sha256(self.part(number)).hexdigest() for number in numbers]

    def cut(self, size_bytes: int) -> None:
        """Be no longer than that."""
        if self.size_bytes > size_bytes:
            os.ftruncate(self._file, size_bytes)

    def sync(self) -> None:
        """What was written is on the disk when this returns."""
        os.fsync(self._file)

    def become(self) -> None:
        """It is whole: it takes its name."""
        os.replace(self._name, self.target)  # noqa: PTH105
        self.close()

    def drop(self) -> None:
        """It is good for nothing."""
        Path(self._name).unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Let go; what is there stays, to be continued. Again and again is fine."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


@contextlib.contextmanager
def writing(target: Path) -> Iterator[None]:
    """What this machine does not let us write is Refused, by name."""
    try:
        yield
    except OSError as error:
        raise Refused(
            f"{str(target)!r} cannot be written: {error.strerror}",
            hint="what has arrived stays; make it possible and fetch again",
        ) from error


def digest_of(path: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    found = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(_CHUNK_BYTES):
            found.update(chunk)
    return found.hexdigest()


def part_digests(path: Path) -> list[str]:
    """The sha256 of each part of a file; of an empty one, that of nothing."""
    found = []
    with path.open("rb", buffering=0) as file:
        for number in range(max(1, part_count(os.fstat(file.fileno()).st_size))):
            part = os.pread(file.fileno(), PART_BYTES, number * PART_BYTES)
            found.append(hashlib.sha256(part).hexdigest())
    return found


def part_count(size_bytes: int) -> int:
    """How many parts a file of that size has."""
    return -(-size_bytes // PART_BYTES)
