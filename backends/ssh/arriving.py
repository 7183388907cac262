"""What comes from the far end, put in its place on this machine.

The far end is not trusted: it is asked for files by name, and what it sends goes where the name
that was asked for says, in the length that was asked for, or nowhere.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from backends.errors import Lost
from backends.ssh.crew import Meter
from backends.ssh.frames import PART_BYTES, Buffer, Frame, Header, path_text, unreadable
from backends.ssh.parts import Unfinished, part_count, writing

_TRIES = 5


class Mark(NamedTuple):
    """What tells that a file there is still the same."""

    size: int
    time: int
    inode: int

    @classmethod
    def of(cls, row: Any) -> Mark:
        """From what the far end says."""
        if not isinstance(row, list) or [type(item) for item in row] != [int, int, int]:
            raise unreadable()
        if row[0] < 0:
            raise unreadable()
        return cls(*row)

    def may_be_a_beginning_of(self, later: Mark) -> bool:
        """Whether nothing has been done to it, or perhaps only appended: a log does no more."""
        return self == later or (self.inode == later.inode and self.size < later.size)


_NOTHING = Mark(0, 0, 0)


@dataclass
class Wanted:
    """A file to be brought; `sha256` is what it must be, if that is known."""

    path: PurePosixPath
    target: Path
    sha256: str | None
    mark: Mark = _NOTHING
    tries: int = 0

    @cached_property
    def name(self) -> str:
        """Its path as it travels."""
        return path_text(self.path)

    @property
    def parts(self) -> range:
        """The numbers of its parts; an empty file has one, too."""
        return range(max(1, part_count(self.mark.size)))

    def lost(self) -> Lost:
        """It is not what it should be."""
        return Lost(f"{str(self.path)!r} is no longer what its manifest says it was")


class Later:
    """Files to be asked for once more. Any thread may add."""

    def __init__(self) -> None:
        self.files: list[Wanted] = []

    def changed(self, wanted: Wanted) -> None:
        """It changed while it came. Raises Lost when it always does."""
        wanted.tries += 1
        if wanted.tries >= _TRIES:
            raise Lost(f"{str(wanted.path)!r} changes faster than it can be fetched")
        self.files.append(wanted)

    def busy(self, wanted: Wanted) -> None:
        """Another process is bringing it."""
        self.files.append(wanted)


@dataclass
class Batch:
    """Small files, asked for together."""

    files: Sequence[Wanted]
    later: Later
    meter: Meter

    @property
    def size_bytes(self) -> int:
        """As far as it is known."""
        return sum(wanted.mark.size for wanted in self.files)

    def request(self) -> tuple[Header, Sequence[Buffer]]:
        """As much of each as there is, should it have grown."""
        rows = [[file.name, 0, PART_BYTES] for file in self.files]
        return {"do": "get", "files": rows, "unchecked": False}, ()

    def answered(self, answer: Frame) -> None:
        """Put each in its place."""
        for wanted, piece in zip(self.files, _pieces(answer, len(self.files)), strict=True):
            if piece is None:
                raise Lost(f"there is no file {str(wanted.path)!r} any more")
            self.meter.moved(wanted.name, len(piece.content))
            self._place(wanted, piece)

    def _place(self, wanted: Wanted, piece: _Piece) -> None:
        steady = piece.before.may_be_a_beginning_of(piece.after)
        if wanted.sha256 is not None and piece.sha256 != wanted.sha256:
            if piece.before == piece.after:
                raise wanted.lost()
            steady = False
        if not steady or len(piece.content) < piece.before.size:
            self.later.changed(wanted)
            return
        with writing(wanted.target):
            copy = Unfinished.open(wanted.target)
            if copy is None:
                self.later.busy(wanted)
                return
            try:
                copy.write(piece.content, 0)
                copy.cut(len(piece.content))
                copy.become()
            finally:
                copy.close()


class Large:
    """A file that comes in parts, perhaps several at once, perhaps after others came before.

    missing  the parts to be asked for
    """

    def __init__(
        self, wanted: Wanted, copy: Unfinished, missing: set[int], later: Later, meter: Meter
    ) -> None:
        self.wanted = wanted
        self.copy = copy
        self.missing = sorted(missing)
        self.meter = meter
        self._later = later
        self._left = set(missing)
        self._steady = True
        self._compared = not missing
        """Part by part with the file there: nothing was damaged on its way."""
        self._lock = threading.Lock()
        self._whole = hashlib.sha256()
        self._hashed = 0
        if not missing:
            self._arrived(-1, b"")

    def length(self, number: int) -> int:
        """How long a part is."""
        return min(PART_BYTES, self.wanted.mark.size - number * PART_BYTES)

    def put(self, number: int, piece: _Piece) -> None:
        """One part is here. Whoever brings the last one gives the file its name."""
        self.meter.moved(self.wanted.name, len(piece.content))
        mark = self.wanted.mark
        steady = mark.may_be_a_beginning_of(piece.before) and mark.may_be_a_beginning_of(
            piece.after
        )
        whole = len(piece.content) == self.length(number)
        if whole:
            with writing(self.wanted.target):
                self.copy.write(piece.content, number * PART_BYTES)
        with self._lock:
            self._steady = self._steady and steady and whole
            self._arrived(number, piece.content)

    def _arrived(self, number: int, content: Buffer) -> None:
        self._left.discard(number)
        if self.wanted.sha256 is not None:
            self._hash(number, content)
        if not self._left:
            with writing(self.wanted.target):
                self._finish()

    def _hash(self, number: int, content: Buffer) -> None:
        """Go on with the digest of the whole, as far as there is no gap."""
        while self._hashed in self.wanted.parts and self._hashed not in self._left:
            piece = content if self._hashed == number else self.copy.part(self._hashed)
            self._whole.update(piece)
            self._hashed += 1

    def _finish(self) -> None:
        sha256 = self.wanted.sha256
        self.copy.cut(self.wanted.mark.size)
        if sha256 is None and not self._steady:
            self.copy.close()
            self._later.changed(self.wanted)
        elif sha256 is not None and self._whole.hexdigest() != sha256:
            if self._steady and self._compared:
                self.copy.drop()
                raise self.wanted.lost()
            # The next round compares every part, and gets again what differs.
            self.copy.close()
            self._later.changed(self.wanted)
        else:
            self.copy.sync()
            self.copy.become()


@dataclass
class Part:
    """One part of a large file."""

    file: Large
    number: int

    @property
    def size_bytes(self) -> int:
        """Its length."""
        return self.file.length(self.number)

    def request(self) -> tuple[Header, Sequence[Buffer]]:
        """Where it is."""
        row = [self.file.wanted.name, self.number * PART_BYTES, self.size_bytes]
        return {"do": "get", "files": [row], "unchecked": self._unchecked}, ()

    @property
    def _unchecked(self) -> bool:
        """The digest of the whole says it all."""
        return self.file.wanted.sha256 is not None

    def answered(self, answer: Frame) -> None:
        """Put it in its place."""
        (piece,) = _pieces(answer, 1, checked=not self._unchecked)
        if piece is None:
            raise Lost(f"there is no file {str(self.file.wanted.path)!r} any more")
        self.file.put(self.number, piece)


@dataclass(frozen=True)
class _Piece:
    """Content of a file, with what its digest is if that was asked for, and how the file was."""

    content: memoryview
    sha256: str
    before: Mark
    after: Mark


def _pieces(answer: Frame, count: int, *, checked: bool = True) -> Iterator[_Piece | None]:
    """What was asked for, in order; None for a file that is gone."""
    rows = answer.header.get("files")
    if not isinstance(rows, list) or len(rows) != count:
        raise unreadable()
    rest = memoryview(answer.content)
    for row in rows:
        if row is None:
            yield None
            continue
        if not isinstance(row, list) or len(row) != 4 or type(row[0]) is not int:
            raise unreadable()
        length, sha256, before, after = row
        content, rest = rest[:length], rest[length:]
        if not 0 <= length <= PART_BYTES or len(content) != length:
            raise unreadable()
        if checked and hashlib.sha256(content).hexdigest() != sha256:
            raise unreadable()
        yield _Piece(content, sha256, Mark.of(before), Mark.of(after))
