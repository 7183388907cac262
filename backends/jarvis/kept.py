"""Copies here of the small files of a job whose machine sleeps: to look is not worth waking it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from backends import rundir
from backends.errors import Lost
from backends.protocol import silent
from backends.ssh.workplace import Workplace

_SMALL = 1024 * 1024
_ALL = 64 * 1024 * 1024
_LISTING = "listing.json"
_FILES = "files"


class Kept:
    """The copies of one state directory."""

    def __init__(self, root: Path) -> None:
        self._root = root / "kept"

    def take(self, job: str, workplace: Workplace) -> None:
        """Copy what is small, and the list of all files. Raises what the workplace raises."""
        folder = self._root / f".{job}.{os.urandom(4).hex()}"
        folder.mkdir(mode=0o700, parents=True)
        try:
            found = workplace.listing(job)
            chosen, total = [], 0
            for path, size in sorted(found.items(), key=lambda item: item[1]):
                total += size
                if size > _SMALL or total > _ALL:
                    break
                chosen.append(path)
            workplace.fetch(job, chosen, folder / _FILES, told=silent)
            names = {str(path): size for path, size in found.items()}
            (folder / _LISTING).write_text(json.dumps(names), encoding="utf-8")
            self.forget(job)
            folder.rename(self._root / job)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def path(self, job: str, path: PurePosixPath) -> Path | None:
        """Where the copy of a file is; None when there is none, or the path leads outside."""
        if path.is_absolute() or not path.parts or ".." in path.parts:
            return None
        here = self._root / job / _FILES / path
        try:
            return here if here.is_file() else None
        except (OSError, ValueError):
            return None

    def listing(self, job: str) -> Mapping[PurePosixPath, int] | None:
        """All files the job had when the copies were made; None when there are no copies."""
        try:
            names = json.loads((self._root / job / _LISTING).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return {PurePosixPath(name): size for name, size in names.items()}

    def digests(self, job: str) -> dict[PurePosixPath, str]:
        """What the manifest vouches for; empty when there is no copy of it."""
        here = self.path(job, rundir.MANIFEST)
        return {} if here is None else digests(here.read_bytes())

    def forget(self, job: str) -> None:
        """Remove the copies of a job."""
        shutil.rmtree(self._root / job, ignore_errors=True)


def digests(manifest: bytes) -> dict[PurePosixPath, str]:
    """The sha256 of each file that a manifest names."""
    found = rundir.parse_manifest(manifest)
    return {} if found is None else {file.path: file.sha256 for file in found.files}


def require_inside(path: PurePosixPath) -> None:
    """Raises Lost for a path that is no file of a run directory."""
    if path.is_absolute() or not path.parts or ".." in path.parts:
        raise Lost(f"{str(path)!r} is not inside the run directory")
