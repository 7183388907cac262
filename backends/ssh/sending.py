"""Files of this machine, brought to a folder there: what the far end has is not sent again."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from io import FileIO
from pathlib import PurePosixPath

from backends.errors import Refused
from backends.job import LocalFile
from backends.ssh.crew import Crew, Meter
from backends.ssh.frames import PART_BYTES, Buffer, Frame, Header, path_text, unreadable
from backends.ssh.host import Host
from backends.ssh.programs import FarError

_BATCH_BYTES = 1 << 20
_BATCH_FILES = 128
_ASKED_AT_ONCE = 2000
_ROUNDS = 3


@dataclass
class _Sent:
    """A file on its way. `parts` are the digests of all its parts, as they are read."""

    file: LocalFile
    row: list[object]
    missing: set[int] | None = None
    parts: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return str(self.row[0])

    @property
    def missing_bytes(self) -> int:
        if self.missing is None:
            return self.file.size_bytes
        whole = len(self.missing) * PART_BYTES
        last = -(-self.file.size_bytes // PART_BYTES) - 1
        return whole - (PART_BYTES * (last + 1) - self.file.size_bytes) * (last in self.missing)


def send(
    host: Host, root: PurePosixPath, files: Sequence[LocalFile], *, meter: Meter, channels: int
) -> None:
    """Bring files below `root`, each whole or not at all. See `sync.upload`."""
    meter.begin(sum(file.size_bytes for file in files))
    with Crew(host, root, channels) as crew:
        # While the far end starts: it is not kept waiting.
        todo = [_Sent(file, row) for file, row in zip(files, _rows(files), strict=True)]
        for _ in range(_ROUNDS):
            todo = _wanted(crew, todo, meter)
            if not todo:
                return
            small = [sent for sent in todo if sent.file.size_bytes <= PART_BYTES]
            large = [sent for sent in todo if sent.file.size_bytes > PART_BYTES]
            size = sum(sent.missing_bytes for sent in todo)
            crew.all(_units(small, large, meter), size)
            todo = _unfinished(crew, large)
    if todo:
        raise FarError(f"{todo[0].name!r} does not become whole there: something else writes it")


def _rows(files: Sequence[LocalFile]) -> Iterator[list[object]]:
    """The files as the far end is told of them: path, size, executable or not, sha256."""
    places: set[PurePosixPath] = set()
    for file in files:
        if file.at.is_absolute() or not file.at.parts or ".." in file.at.parts:
            raise Refused(f"{str(file.at)!r} is no place for a file in a run directory")
        if file.at in places:
            raise Refused(f"two files want the same place: {str(file.at)!r}")
        places.add(file.at)
        status = _status(file)
        if status.st_size != file.size_bytes:
            raise _changed(file)
        executable = bool(status.st_mode & stat.S_IXUSR)
        yield [path_text(file.at), file.size_bytes, executable, file.sha256]


def _wanted(crew: Crew, asked: Sequence[_Sent], meter: Meter) -> list[_Sent]:
    """Those the far end does not have, with what it lacks of each."""
    found: list[_Sent] = []
    chunks = (asked[at : at + _ASKED_AT_ONCE] for at in range(0, len(asked), _ASKED_AT_ONCE))
    crew.alone(_Want(chunk, found) for chunk in chunks)
    meter.settled(
        sum(sent.file.size_bytes for sent in asked) - sum(sent.missing_bytes for sent in found)
    )
    return found


def _units(
    small: Sequence[_Sent], large: Sequence[_Sent], meter: Meter
) -> Iterator[_Batch | _Part]:
    batch: list[_Sent] = []
    size = 0
    for sent in small:
        if batch and (size + sent.file.size_bytes > _BATCH_BYTES or len(batch) >= _BATCH_FILES):
            yield _Batch(batch, size, meter)
            batch, size = [], 0
        batch.append(sent)
        size += sent.file.size_bytes
    if batch:
        yield _Batch(batch, size, meter)
    for sent in large:
        yield from _parts(sent, meter)


def _parts(sent: _Sent, meter: Meter) -> Iterator[_Part]:
    """The parts of a file that are missing; all of it is read, to know that it is the same file.

    What the digest of the whole finds too late was sent for nothing: it never gets its name.
    """
    whole = hashlib.sha256()
    count = -(-sent.file.size_bytes // PART_BYTES)
    sent.parts = [""] * count
    with _opened(sent.file) as source:
        for number in range(count):
            content = memoryview(bytearray(PART_BYTES))
            content = content[: _read_into(source, content)]
            whole.update(content)
            if sent.missing is None or number in sent.missing:
                yield _Part(sent, number, content, meter)
            else:
                sent.parts[number] = hashlib.sha256(content).hexdigest()
        if source.read(1) or whole.hexdigest() != sent.file.sha256:
            raise _changed(sent.file)


def _unfinished(crew: Crew, large: Sequence[_Sent]) -> list[_Sent]:
    """Have the files put in their places; those the far end lacks parts of after all."""
    left: list[_Sent] = []
    chunks = (large[at : at + _ASKED_AT_ONCE] for at in range(0, len(large), _ASKED_AT_ONCE))
    crew.alone(_Finish(chunk, left) for chunk in chunks)
    return left


@dataclass
class _Want:
    """Asks which of these files it wants."""

    asked: Sequence[_Sent]
    found: list[_Sent]
    size_bytes: int = 0

    def request(self) -> tuple[Header, Sequence[Buffer]]:
        return {"do": "want", "files": [sent.row for sent in self.asked]}, ()

    def answered(self, answer: Frame) -> None:
        try:
            for number, missing in answer.header["want"]:
                sent = self.asked[number]
                sent.missing = None if missing is None else set(missing)
                self.found.append(sent)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise unreadable() from error


@dataclass
class _Batch:
    """Small files, read and sent together."""

    batch: Sequence[_Sent]
    size_bytes: int
    meter: Meter

    def request(self) -> tuple[Header, Sequence[Buffer]]:
        content = [_whole(sent.file) for sent in self.batch]
        return {"do": "put", "files": [sent.row for sent in self.batch]}, (b"".join(content),)

    def answered(self, answer: Frame) -> None:
        if answer.header.get("put") != len(self.batch):
            raise unreadable()
        for sent in self.batch:
            self.meter.moved(sent.name, sent.file.size_bytes)


@dataclass
class _Part:
    """One part of a large file. Its content is let go of as soon as it has been sent."""

    sent: _Sent
    number: int
    content: memoryview | None
    meter: Meter
    size_bytes: int = 0

    def request(self) -> tuple[Header, Sequence[Buffer]]:
        assert self.content is not None
        content, self.content = self.content, None
        self.size_bytes = len(content)
        digest = hashlib.sha256(content).hexdigest()
        self.sent.parts[self.number] = digest
        header = {"do": "part", "file": self.sent.row, "at": self.number, "sha256": digest}
        return header, (content,)

    def answered(self, answer: Frame) -> None:
        if answer.header.get("put") != 1:
            raise unreadable()
        self.meter.moved(self.sent.name, self.size_bytes)


@dataclass
class _Finish:
    """All parts of these have been sent: put them in their places."""

    files: Sequence[_Sent]
    left: list[_Sent]
    size_bytes: int = 0

    def request(self) -> tuple[Header, Sequence[Buffer]]:
        return {"do": "finish", "files": [[sent.row, sent.parts] for sent in self.files]}, ()

    def answered(self, answer: Frame) -> None:
        missing = answer.header.get("missing")
        if not isinstance(missing, list) or len(missing) != len(self.files):
            raise unreadable()
        self.left += [sent for sent, lost in zip(self.files, missing, strict=True) if lost]


def _status(file: LocalFile) -> os.stat_result:
    """Looked at before it is opened: opening a pipe waits for a writer."""
    try:
        status = file.here.stat()
    except (OSError, ValueError) as error:
        raise _no_file(file, error) from error
    if not stat.S_ISREG(status.st_mode):
        raise Refused(f"{str(file.here)!r} is not a regular file, so it cannot travel")
    return status


def _opened(file: LocalFile) -> FileIO:
    _status(file)
    try:
        return file.here.open("rb", buffering=0)
    except OSError as error:
        raise _no_file(file, error) from error


def _whole(file: LocalFile) -> bytes:
    """A small file's content. Raises Refused when it is not what was planned."""
    try:
        with file.here.open("rb", buffering=0) as source:
            content = source.read(file.size_bytes + 1) or b""
    except OSError as error:
        raise _no_file(file, error) from error
    if hashlib.sha256(content).hexdigest() != file.sha256:
        raise _changed(file)
    return content


def _read_into(source: FileIO, buffer: memoryview) -> int:
    """Fill the buffer, but for the file's end; how many bytes."""
    have = 0
    while have < len(buffer):
        got = source.readinto(buffer[have:])
        if not got:
            break
        have += got
    return have


def _no_file(file: LocalFile, error: Exception) -> Refused:
    why = getattr(error, "strerror", None) or error
    return Refused(f"{str(file.here)!r} cannot be read: {why}")


def _changed(file: LocalFile) -> Refused:
    return Refused(
        f"{str(file.here)!r} has changed since the job was planned",
        hint="start again: the plan is then made from the file as it is now",
    )
