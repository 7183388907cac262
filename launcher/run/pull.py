"""Results come home: fetched, checked against the manifest, laid under the run's own folder."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from backends.errors import Lost, Refused
from backends.job import Files
from backends.lease import Phase
from backends.protocol import Backend
from launcher.store import JobRecord

MANIFEST = PurePosixPath("manifest.json")

_STEP_NAME = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True)
class Entry:
    """A file of the run directory, as the manifest has it; no hash when there was no manifest."""

    path: PurePosixPath
    size_bytes: int
    sha256: str | None


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
        _require_inside(entry.path)
    wanted = [entry for entry in entries if selected(entry.path, patterns)]
    if job.phase is not Phase.SUCCEEDED:
        wanted = _with_checkpoint(backend, job.files, entries, wanted)
    try:
        missing = [entry for entry in wanted if not _same(into / entry.path, entry)]
        _room(into, sum(entry.size_bytes for entry in missing))
        _fetch_checked(backend, job.files, missing, into)
        _logs(backend, job, into)
        if verified:
            _keep_manifest(backend, job, into)
    except OSError as error:
        raise Refused(
            f"the results cannot be written to {into}: {error.strerror}",
            hint="mend it, then: ftlaunch pull; the files stay where they are until then",
        ) from error
    return Pulled(into=into, files=tuple(wanted), verified=verified)


def _keep_manifest(backend: Backend, job: JobRecord, into: Path) -> None:
    if job.files is not None:
        folder = into / "manifests"
        folder.mkdir(exist_ok=True)
        text = b"".join(backend.read(job.files, MANIFEST, offset=0, follow=False))
        (folder / f"{job.kind}-{job.id}.json").write_bytes(text)


def inventory(backend: Backend, files: Files) -> tuple[list[Entry], bool]:
    """What there is, and whether it comes from the manifest (True) or from a look round."""
    try:
        raw = b"".join(backend.read(files, MANIFEST, offset=0, follow=False))
        rows = json.loads(raw)["files"]
    except (Lost, ValueError, KeyError, TypeError):
        listing = backend.listing(files)
        return [Entry(path, size, None) for path, size in sorted(listing.items())], False
    return [Entry(PurePosixPath(row["path"]), row["size"], row["sha256"]) for row in rows], True


def _require_inside(path: PurePosixPath) -> None:
    """The other side may be anybody's machine: a path it names must not lead out of the folder."""
    if not path.parts or path.is_absolute() or ".." in path.parts:
        raise Lost(
            f"the job's manifest names a place outside its run directory: {str(path)!r}",
            hint="nothing was pulled; do not trust what this job made",
        )


def selected(path: PurePosixPath, patterns: Iterable[str]) -> bool:
    """Whether the globs take this path: `**` crosses folders, and the last that matches decides."""
    taken = False
    for pattern in patterns:
        leaves_out = pattern.startswith("!")
        if _matches(str(path), pattern.removeprefix("!")):
            taken = not leaves_out
    return taken


def _matches(path: str, pattern: str) -> bool:
    # fnmatch's `*` crosses folders already, so `**` is only another way to write it here.
    return fnmatchcase(path, pattern.replace("**/", "*").replace("**", "*"))


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


def state(backend: Backend, files: Files) -> dict[str, object]:
    """The runner's state as last written; empty when there is none."""
    try:
        raw = b"".join(backend.read(files, PurePosixPath("state.json"), offset=0, follow=False))
        found = json.loads(raw)
    except (Lost, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def newest_checkpoint(state: dict[str, object]) -> str | None:
    """The complete checkpoint with the highest number, relative to the run directory."""
    rows = state.get("checkpoints")
    if not isinstance(rows, list):
        return None
    complete = [str(row["path"]) for row in rows if row.get("complete")]
    return max(complete, key=_number, default=None)


def _number(path: str) -> int:
    digits = path.rsplit("-", 1)[-1]
    return int(digits) if digits.isdigit() else -1


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
        return _same(path, entry)
    try:
        return path.stat().st_size == entry.size_bytes
    except OSError:
        return False


def _same(path: Path, entry: Entry) -> bool:
    """Whether the very content is here already; what has no hash is fetched anew to be sure."""
    try:
        if entry.sha256 is None or path.stat().st_size != entry.size_bytes:
            return False
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == entry.sha256
    except OSError:
        return False


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
