"""Results come home: fetched, checked against the manifest, laid under the run's own folder."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from backends.errors import Lost, Refused
from backends.job import Files
from backends.lease import Phase
from backends.protocol import Backend
from launcher.run.inventory import (
    MANIFEST,
    Entry,
    inventory,
    manifest_in,
    newest_checkpoint,
    require_inside,
    selected,
    state,
)
from launcher.store import JobRecord

_STEP_NAME = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True)
class Pulled:
    """What came home, and where it is."""

    into: Path
    files: tuple[Entry, ...]
    verified: bool

    @property
    def size_bytes(self) -> int:
        """The sum of the files' sizes."""
        return sum(entry.size_bytes for entry in self.files)

    def sentence(self) -> str:
        """One line for a person."""
        how = "verified" if self.verified else "saved without a manifest: not verified"
        return f"{len(self.files)} files, {human_bytes(self.size_bytes)}, {how}, in {self.into}"


def pull(backend: Backend, job: JobRecord, into: Path, *, patterns: Sequence[str]) -> Pulled:
    """Bring a job's outputs and logs to `into`, and check every one.

    patterns  globs relative to the run directory; `!` in front leaves out. A job that did not
              succeed also brings its newest complete checkpoint, so that nothing paid for is lost.
    Raises Lost when a file is gone or keeps arriving damaged, Refused when the disk has no room.
    """
    if job.files is None:
        raise Lost(f"the files of {job.name} are gone")
    entries, verified = inventory(backend, job.files)
    for entry in entries:
        require_inside(entry.path)
    wanted = [entry for entry in entries if selected(entry.path, patterns)]
    if job.phase is not Phase.SUCCEEDED:
        wanted = _with_checkpoint(backend, job.files, entries, wanted)
    try:
        missing = [entry for entry in wanted if not is_same(into / entry.path, entry)]
        _room(into, sum(entry.size_bytes for entry in missing))
        _fetch_checked(backend, job.files, missing, into)
        _logs(backend, job, into)
        _keep_manifest(backend, job, into, wanted, verified=verified)
    except OSError as error:
        raise Refused(
            f"the results cannot be written to {into}: {error.strerror}",
            hint="mend it, then: ftlaunch pull; the files stay where they are until then",
        ) from error
    return Pulled(into=into, files=tuple(wanted), verified=verified)


def _keep_manifest(
    backend: Backend, job: JobRecord, into: Path, pulled: Sequence[Entry], *, verified: bool
) -> None:
    """The job's own manifest; of a job that left none, one of what arrived.

    A later job may have to start from what was pulled, and must be able to tell whether that is
    still what it was.
    """
    if job.files is None:
        return
    if verified:
        text = b"".join(backend.read(job.files, MANIFEST, offset=0, follow=False))
    else:
        rows = [
            {"path": str(e.path), "size": e.size_bytes, "sha256": _sha256(into / e.path)}
            for e in pulled
        ]
        made = {"schema": 1, "job": job.name, "verdict": str(job.phase), "made_here": True}
        text = json.dumps({**made, "files": rows}, indent=1).encode()
    path = manifest_in(into, job)
    path.parent.mkdir(exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(text)
    partial.replace(path)


def _with_checkpoint(
    backend: Backend, files: Files, entries: Sequence[Entry], wanted: list[Entry]
) -> list[Entry]:
    newest = newest_checkpoint(state(backend, files))
    if newest is None:
        return wanted
    have = {entry.path for entry in wanted}
    return wanted + [
        entry for entry in entries if entry.path.is_relative_to(newest) and entry.path not in have
    ]


def _fetch_checked(backend: Backend, files: Files, wanted: Sequence[Entry], into: Path) -> None:
    into.mkdir(parents=True, exist_ok=True)
    missing = list(wanted)
    for again in (False, True):
        if not missing:
            return
        for entry in missing if again else ():
            (into / entry.path).unlink(missing_ok=True)
        backend.fetch(files, [entry.path for entry in missing], into)
        missing = [entry for entry in missing if not _arrived(into / entry.path, entry)]
    if missing:
        raise Lost(
            f"{missing[0].path} arrives with other content than its manifest says",
            hint="try again with: ftlaunch pull",
        )


def _arrived(path: Path, entry: Entry) -> bool:
    """Whether what was fetched is what was meant; without a hash only its size can tell."""
    if entry.sha256 is not None:
        return is_same(path, entry)
    try:
        return path.stat().st_size == entry.size_bytes
    except OSError:
        return False


def is_same(path: Path, entry: Entry) -> bool:
    """Whether the very content is here already; what has no hash is fetched anew to be sure."""
    try:
        if entry.sha256 is None or path.stat().st_size != entry.size_bytes:
            return False
        return _sha256(path) == entry.sha256
    except OSError:
        return False


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _logs(backend: Backend, job: JobRecord, into: Path) -> None:
    """The job's log, one plain file a step."""
    if job.files is None:
        return
    folder = into / "logs"
    folder.mkdir(exist_ok=True)
    steps = state(backend, job.files).get("steps")
    for step in steps if isinstance(steps, list) else []:
        if not _STEP_NAME.fullmatch(str(step["name"])):
            continue
        name = f"{step['name']}-{job.id}.log"
        partial = folder / f".{name}.partial"
        with partial.open("wb") as out:
            for number in range(1, int(step.get("segments", 0)) + 1):
                path = PurePosixPath(f"logs/{step['name']}/{number:06d}.log")
                try:
                    for chunk in backend.read(job.files, path, offset=0, follow=False):
                        out.write(chunk)
                except Lost:
                    continue
        partial.replace(folder / name)


def _room(into: Path, needed: int) -> None:
    existing = into
    while not existing.exists():
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    if free < needed + 16 * 1024 * 1024:
        raise Refused(
            f"{into} has room for {human_bytes(free)}, the results take {human_bytes(needed)}",
            hint="make room, then: ftlaunch pull; the files stay where they are until then",
        )


def human_bytes(count: int) -> str:
    """`517 MB`: decimal units, as disks are sold."""
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def check_writable(folder: Path) -> None:
    """Raises Refused when results could not be written to `folder`; leaves nothing behind.

    A file is really made: permissions alone do not tell of a read-only or full disk.
    """
    existing = folder
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise Refused(
            f"the results cannot be written to {folder}: {error.strerror}",
            hint="choose another folder with --output",
        ) from error
