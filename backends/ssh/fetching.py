"""Files of a folder there, brought to this machine: what is here already is not sent again."""

from __future__ import annotations

import itertools
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeVar

from backends.errors import Lost, Refused
from backends.ssh.arriving import Batch, Large, Later, Mark, Part, Wanted
from backends.ssh.crew import Crew, Meter
from backends.ssh.frames import PART_BYTES, Buffer, Frame, Header, unreadable
from backends.ssh.host import Host
from backends.ssh.parts import Unfinished, digest_of, part_digests, writing

_BATCH_BYTES = 1 << 20
_BATCH_FILES = 128
_ASKED_AT_ONCE = 2000
_PARTS_AT_ONCE = 16
_POLL_S = 0.2

_T = TypeVar("_T")
_Digests = list[str]


def fetch(
    host: Host,
    root: PurePosixPath,
    paths: Sequence[PurePosixPath],
    into: Path,
    *,
    sha256: Mapping[PurePosixPath, str],
    meter: Meter,
    channels: int,
) -> None:
    """Bring files to `into`, each whole or not at all. See `sync.download`."""
    todo = [Wanted(path, into / path, sha256.get(path)) for path in dict.fromkeys(paths)]
    for wanted in todo:
        if wanted.path.is_absolute() or ".." in wanted.path.parts or not wanted.path.parts:
            raise Lost(f"{str(wanted.path)!r} is not inside the run directory")
    with Crew(host, root, channels) as crew:
        todo = _Round(crew, meter, first=True).bring(todo)
        while todo:
            time.sleep(_POLL_S)
            todo = _Round(crew, meter).bring(todo)


class _Round:
    """One attempt at all files that are left."""

    def __init__(self, crew: Crew, meter: Meter, *, first: bool = False) -> None:
        self._first = first
        self._crew = crew
        self._meter = meter
        self._later = Later()
        self._open: list[Unfinished] = []

    def bring(self, todo: Sequence[Wanted]) -> list[Wanted]:
        """Those to be asked for again: they changed meanwhile, or another process brings them."""
        self._crew.alone(_Stat(chunk) for chunk in _chunks(todo, _ASKED_AT_ONCE))
        if self._first:
            self._meter.begin(sum(wanted.mark.size for wanted in todo))
        missing = self._missing(todo)
        small = [wanted for wanted in missing if wanted.mark.size <= PART_BYTES]
        large = [wanted for wanted in missing if wanted.mark.size > PART_BYTES]
        _make_folders(missing)
        try:
            begun = self._begun(large)
            names = {file.wanted.name for file in begun}
            fresh = [wanted for wanted in large if wanted.name not in names]
            size = sum(wanted.mark.size for wanted in missing)
            self._crew.all(self._units(small, begun, fresh), size)
        finally:
            for copy in self._open:
                copy.close()
        return self._later.files

    def _missing(self, todo: Sequence[Wanted]) -> list[Wanted]:
        """The files that are not here with the content they have there."""
        missing, unsure, here = [], [], []
        for wanted in todo:
            with writing(wanted.target):
                if _size_here(wanted.target) != wanted.mark.size:
                    missing.append(wanted)
                elif wanted.sha256 is None:
                    unsure.append(wanted)
                elif digest_of(wanted.target) == wanted.sha256:
                    here.append(wanted)
                else:
                    missing.append(wanted)
        there = self._digests([(wanted, wanted.parts) for wanted in unsure])
        for wanted in unsure:
            with writing(wanted.target):
                same = part_digests(wanted.target) == there[wanted.name]
            (here if same else missing).append(wanted)
        for wanted in here:
            self._meter.settled(wanted.mark.size)
        return missing

    def _begun(self, large: Sequence[Wanted]) -> list[Large]:
        """The large files of which an unfinished copy is here, with what is right of it."""
        found = []
        for wanted in large:
            with writing(wanted.target):
                copy = Unfinished.open(wanted.target, anew=False)
                if copy is None:
                    continue
                self._open.append(copy)
                copy.cut(wanted.mark.size)
                here = copy.part_digests()
            there = self._digests([(wanted, wanted.parts[: len(here)])])[wanted.name]
            pairs = enumerate(zip(here, there, strict=True))
            right = {number for number, (ours, theirs) in pairs if ours == theirs}
            missing = set(wanted.parts) - right
            file = Large(wanted, copy, missing, self._later, self._meter)
            self._meter.settled(wanted.mark.size - sum(file.length(number) for number in missing))
            found.append(file)
        return found

    def _digests(self, asked: Sequence[tuple[Wanted, range]]) -> dict[str, _Digests]:
        """What the far end says the digests of these parts are, by the file's name."""
        found: dict[str, _Digests] = {wanted.name: [] for wanted, _ in asked}
        pieces = (
            (wanted, parts[at : at + _PARTS_AT_ONCE])
            for wanted, parts in asked
            for at in range(0, len(parts), _PARTS_AT_ONCE)
        )
        self._crew.alone(_Compare(wanted, parts, found[wanted.name]) for wanted, parts in pieces)
        return found

    def _units(
        self, small: Sequence[Wanted], begun: Sequence[Large], fresh: Sequence[Wanted]
    ) -> Iterator[Batch | Part]:
        batch: list[Wanted] = []
        size = 0
        for wanted in small:
            if batch and (size + wanted.mark.size > _BATCH_BYTES or len(batch) >= _BATCH_FILES):
                yield Batch(batch, self._later, self._meter)
                batch, size = [], 0
            batch.append(wanted)
            size += wanted.mark.size
        if batch:
            yield Batch(batch, self._later, self._meter)
        for file in itertools.chain(begun, self._opened(fresh)):
            for number in file.missing:
                yield Part(file, number)

    def _opened(self, fresh: Sequence[Wanted]) -> Iterator[Large]:
        """Large files of which nothing is here, each opened when its turn comes."""
        for wanted in fresh:
            with writing(wanted.target):
                copy = Unfinished.open(wanted.target)
            if copy is not None:
                self._open.append(copy)
            if copy is None or copy.size_bytes:
                self._later.busy(wanted)
            else:
                yield Large(wanted, copy, set(wanted.parts), self._later, self._meter)


@dataclass
class _Stat:
    """Asks how the files are now. Raises Lost for the first that is not there."""

    files: Sequence[Wanted]
    size_bytes: int = 0

    def request(self) -> tuple[Header, Sequence[Buffer]]:
        return {"do": "stat", "paths": [wanted.name for wanted in self.files]}, ()

    def answered(self, answer: Frame) -> None:
        rows = answer.header.get("files")
        if not isinstance(rows, list) or len(rows) != len(self.files):
            raise unreadable()
        for wanted, row in zip(self.files, rows, strict=True):
            if row is None:
                raise Lost(f"there is no file {str(wanted.path)!r} there")
            wanted.mark = Mark.of(row)


@dataclass
class _Compare:
    """Asks for digests of some of a file's parts."""

    wanted: Wanted
    parts: range
    found: _Digests
    size_bytes: int = 0

    def request(self) -> tuple[Header, Sequence[Buffer]]:
        return {"do": "digests", "files": [[self.wanted.name, list(self.parts)]]}, ()

    def answered(self, answer: Frame) -> None:
        try:
            (digests,) = answer.header["digests"]
        except (KeyError, TypeError, ValueError) as error:
            raise unreadable() from error
        if digests is None:
            raise Lost(f"there is no file {str(self.wanted.path)!r} any more")
        if len(digests) != len(self.parts):
            raise unreadable()
        self.found += digests


def _size_here(target: Path) -> int:
    """The size of the file of that name; -1 when there is none."""
    try:
        status = target.stat()
    except (FileNotFoundError, NotADirectoryError):
        return -1
    if stat.S_ISDIR(status.st_mode):
        raise Refused(f"{str(target)!r} is a folder, where a file should come")
    return status.st_size if stat.S_ISREG(status.st_mode) else -1


def _make_folders(files: Sequence[Wanted]) -> None:
    for target in {wanted.target.parent: wanted.target for wanted in files}.values():
        with writing(target):
            target.parent.mkdir(parents=True, exist_ok=True)


def _chunks(items: Sequence[_T], size: int) -> Iterator[Sequence[_T]]:
    return (items[at : at + size] for at in range(0, len(items), size))
