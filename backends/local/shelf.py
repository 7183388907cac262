"""Where the local backend's jobs stand on disk, and who may change them."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from backends.job import Files
from backends.lease import Lease

NAME = "local"
RECORD = "lease.json"
"""The note in a run directory that says whose it is."""


class Stage(StrEnum):
    """How far a launch has come, as far as the disk knows."""

    LAYING = "laying"
    """Inputs are being copied; no process has been started."""
    STARTED = "started"
    """The runner has been asked to start: it may live, or have lived."""
    RELEASED = "released"
    """Let go of; only the files remain."""


@dataclass(frozen=True)
class Record:
    """What is known of a job besides its run directory.

    request  a digest of the commands, so that a name is not given two different jobs
    """

    id: str
    job: str
    created_at: str
    request: str
    stage: Stage = Stage.LAYING

    def lease(self) -> Lease:
        """The same, as the seam has it."""
        return Lease(
            backend=NAME,
            id=self.id,
            job=self.job,
            files=self.files(),
            created_at=datetime.fromisoformat(self.created_at),
        )

    def files(self) -> Files:
        """The job's run directory."""
        return Files(backend=NAME, id=self.id)


class Shelf:
    """The folders of one state directory. Every method may be repeated after a crash in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._runs = root / "runs"
        self._locks = root / "locks"
        self._trash = root / "trash"

    def home(self, job: str) -> Path:
        """The run directory of the job of that name, whether it is there or not."""
        return self._runs / job

    @contextlib.contextmanager
    def claim(self, name: str) -> Iterator[int]:
        """Be the only one who lays, ends or removes `name`; waits for whoever does. Yields the fd.

        A child that inherits the descriptor holds the claim too: a runner that is just starting
        keeps others out even when the process that launched it has died.
        """
        self._make(self._locks)
        path = self._locks / name
        descriptor = _locked(path)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def claimed(self, name: str) -> bool:
        """Whether somebody holds the claim now."""
        try:
            descriptor = os.open(self._locks / name, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def record(self, job: str) -> Record | None:
        """What is known of the job of that name; None when there is none."""
        return _read(self.home(job) / RECORD)

    def find(self, lease_or_files_id: str) -> Record | None:
        """What is known of an id; None when it is not, or no longer, on this machine."""
        job, _, token = lease_or_files_id.rpartition(".")
        if not job or not token or "/" in job or job.startswith("."):
            return None
        found = self.record(job)
        return found if found is not None and found.id == lease_or_files_id else None

    def records(self) -> list[Record]:
        """Every job that stands here, in the order of their names."""
        try:
            names = sorted(os.listdir(self._runs))  # noqa: PTH208 - names alone, ten thousand of them
        except FileNotFoundError:
            return []
        found = (self.record(name) for name in names if not name.startswith("."))
        return [record for record in found if record is not None]

    def begin(self, job: str, *, request: str, now: datetime, before: Record | None) -> Record:
        """Put a fresh folder with its record in the job's place; both appear in one step.

        before  the record of a launch that died half-way: its id lives on
        """
        if before is None:
            before = Record(f"{job}.{os.urandom(4).hex()}", job, now.isoformat(), request)
        record = replace(before, request=request, stage=Stage.LAYING)
        self._make(self._runs)
        for leftover in self._runs.glob(f".{job}.*"):
            self.discard_tree(leftover)
        fresh = self._runs / f".{job}.{os.urandom(4).hex()}"
        fresh.mkdir(mode=0o700)
        write_private(fresh / RECORD, json.dumps(asdict(record)).encode())
        self.remove(job)
        fresh.rename(self.home(job))
        return record

    def advance(self, record: Record, stage: Stage) -> Record:
        """Note how far the job has come."""
        moved = replace(record, stage=stage)
        home = self.home(record.job)
        partial = home / f".{RECORD}.{os.urandom(4).hex()}"
        write_private(partial, json.dumps(asdict(moved)).encode())
        partial.replace(home / RECORD)
        return moved

    def remove(self, job: str) -> None:
        """Take the job's folder away. It is gone in one step, then its disk space follows."""
        self._make(self._trash)
        with contextlib.suppress(FileNotFoundError):
            self.home(job).rename(self._trash / f"{job}.{os.urandom(4).hex()}")
        self.sweep()

    def sweep(self) -> None:
        """Delete what was taken away, by us or by one who died while at it."""
        self.discard_tree(*self._trash.iterdir())

    def discard_tree(self, *trees: Path) -> None:
        """Delete folders, also where a job took the write permission away from its own."""
        for tree in trees:
            _delete(tree)

    def forget_lock(self, name: str) -> None:
        """Remove the lock file of a job that is gone. Only while holding its claim."""
        (self._locks / name).unlink(missing_ok=True)

    def _make(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def write_private(path: Path, content: bytes) -> None:
    """A new file that only its owner reads."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


def _locked(path: Path) -> int:
    """A descriptor of `path` with an exclusive lock on it, waiting as long as it takes."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        # Whoever had it may have removed the file: then this is a lock on nothing.
        try:
            if os.path.samestat(path.stat(), os.fstat(descriptor)):
                return descriptor
        except FileNotFoundError:
            pass
        os.close(descriptor)


def _read(path: Path) -> Record | None:
    try:
        found: dict[str, Any] = json.loads(path.read_bytes())
        known = {field.name: found[field.name] for field in fields(Record)}
        return Record(**{**known, "stage": Stage(known["stage"])})
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        return None


def _delete(tree: Path) -> None:
    with contextlib.suppress(OSError):
        shutil.rmtree(tree)
        return
    for folder, _, _ in os.walk(tree):
        with contextlib.suppress(OSError):
            Path(folder).chmod(0o700)
    shutil.rmtree(tree, ignore_errors=True)
