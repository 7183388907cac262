"""What is known of jobs at Modal: on disk before the provider is asked. One file for each job."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Any

from backends import notes
from backends.notes import Claims


class Stage(StrEnum):
    """How far a job has come."""

    LAYING = "laying"
    """Its files are on their way; nothing bills."""
    ASKED = "asked"
    """An app is being made: it may exist, and its call may run, without an id being known."""
    STARTED = "started"
    RELEASED = "released"


@dataclass(frozen=True)
class Note:
    """A job.

    lease    the id of its lease, the same for ever
    request  a digest of its commands: a name is not given two different jobs
    price    dollars an hour
    verdict  the last observation, once it was one that does not change
    signals  how many were sent
    kept     its files are wanted after the release
    """

    job: str
    lease: str
    created_at: str
    request: str = ""
    price: str = "0"
    app: str = ""
    call: str = ""
    stage: Stage = Stage.LAYING
    verdict: Mapping[str, Any] | None = None
    signals: int = 0
    kept: bool = False


class Records(Claims):
    """The notes of one state directory. Every method may be repeated after a crash in it."""

    def __init__(self, root: Path) -> None:
        super().__init__(root / "locks")
        self.root = root
        self._jobs = root / "jobs"

    def all(self) -> list[Note]:
        """Every job that is known here, oldest first."""
        try:
            paths = sorted(self._jobs.glob("[!.]*.json"))
        except OSError:
            return []
        found = [note for note in map(_read, paths) if note is not None]
        return sorted(found, key=lambda note: note.created_at)

    def get(self, job: str) -> Note | None:
        """What is known of a job."""
        return _read(self._jobs / f"{job}.json")

    def save(self, note: Note) -> Note:
        """Write a note, so that it is there after a power cut as well."""
        notes.write(self._jobs / f"{note.job}.json", json.dumps(asdict(note), indent=1))
        return note

    def try_save(self, note: Note) -> Note:
        """Write a note if the disk takes it: what ends a bill does not wait for room on it."""
        with contextlib.suppress(OSError):
            return self.save(note)
        return note

    def forget(self, job: str) -> None:
        """Remove the note of a job of which nothing is wanted."""
        (self._jobs / f"{job}.json").unlink(missing_ok=True)


def _read(path: Path) -> Note | None:
    try:
        raw: dict[str, Any] = json.loads(path.read_bytes())
        names = {one.name for one in fields(Note)}
        known = {name: value for name, value in raw.items() if name in names}
        return Note(**{**known, "stage": Stage(raw["stage"])})
    except (OSError, ValueError, KeyError, TypeError):
        return None
