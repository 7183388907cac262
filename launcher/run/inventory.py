"""What a job left: the files its manifest vouches for, there or as they were pulled."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

from backends.errors import Lost
from backends.job import Files
from backends.protocol import Backend
from launcher import places
from launcher.store import JobRecord, RunRecord

MANIFEST = PurePosixPath("manifest.json")


@dataclass(frozen=True)
class Entry:
    """A file of the run directory, as the manifest has it; no hash when there was no manifest."""

    path: PurePosixPath
    size_bytes: int
    sha256: str | None


def home(run: RunRecord, job: JobRecord) -> Path:
    """Where a job's results are put: a question's answer is no result of the run."""
    if job.kind == "inference":
        return places.run_dir(run.id) / "asked" / str(job.id)
    return run.output_dir


def manifest_here(run: RunRecord, job: JobRecord) -> Path:
    """The list of what a job left, as it was when its results were pulled."""
    return manifest_in(home(run, job), job)


def manifest_in(into: Path, job: JobRecord) -> Path:
    """The same, for results that were pulled to `into`."""
    return into / "manifests" / f"{job.kind}-{job.id}.json"


def inventory(backend: Backend, files: Files) -> tuple[list[Entry], bool]:
    """What there is, and whether it comes from the manifest (True) or from a look round."""
    try:
        raw = b"".join(backend.read(files, MANIFEST, offset=0, follow=False))
        rows = json.loads(raw)["files"]
        return _entries(rows), True
    except (Lost, ValueError, KeyError, TypeError):
        listing = backend.listing(files)
        return [Entry(path, size, None) for path, size in sorted(listing.items())], False


def _entries(rows: Iterable[Mapping[str, Any]]) -> list[Entry]:
    return [Entry(PurePosixPath(row["path"]), row["size"], row["sha256"]) for row in rows]


def inventory_here(run: RunRecord, job: JobRecord) -> list[Entry] | None:
    """What the job left, by the list that was pulled with it; None when nothing was pulled."""
    try:
        return _entries(json.loads(manifest_here(run, job).read_bytes())["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def require_inside(path: PurePosixPath) -> None:
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
