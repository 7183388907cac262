"""Files that ftlaunch writes for a job: generated ones, and copies that outlive the originals."""

from __future__ import annotations

import hashlib
from pathlib import Path, PurePosixPath

from backends.job import LocalFile


def stage(folder: Path, at: PurePosixPath, content: bytes) -> LocalFile:
    """Write `content` under `folder` for the place `at` in the run directory.

    The file here is named by its digest: two versions never overwrite each other.
    """
    digest = hashlib.sha256(content).hexdigest()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    here = folder / digest
    if not here.exists():
        partial = folder / f"{digest}.partial"
        partial.write_bytes(content)
        partial.replace(here)
    return LocalFile(here=here, at=at, size_bytes=len(content), sha256=digest)


def keep_copy(folder: Path, file: LocalFile) -> LocalFile:
    """The same file, from a copy of ours: a later job gets what the first one had."""
    return stage(folder, file.at, file.here.read_bytes())
