"""Files of a run that are on its machine only: brought here for the jobs still to come."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from backends.errors import Lost, Refused
from backends.job import Files, LocalFile
from backends.protocol import Backend
from launcher.run.inventory import require_inside
from launcher.run.spec import JobSpec

Placed = tuple[PurePosixPath, LocalFile]
"""Where a file is in the run directory, and the file as it must be here."""


def needed(spec: JobSpec) -> list[Placed]:
    """All that a job sends from this computer."""
    found = [(file.at, file) for file in spec.files]
    return found + [(cache.at / f.at, f) for cache in spec.caches for f in cache.tree.files]


def bring(backend: Backend, files: Files, wanted: Iterable[Placed]) -> None:
    """Fetch what is not here yet, and check every file.

    Raises Lost for a file that is not there or no longer what it was, Refused where there is no
    room, and what the backend raises when the machine does not answer.
    """
    missing = [(at, file) for at, file in wanted if not _same(file.here, file)]
    if not missing:
        return
    for at, _ in missing:
        require_inside(at)
    try:
        folder = missing[0][1].here.parent
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".brought-") as made:
            backend.fetch(files, list(dict.fromkeys(at for at, _ in missing)), Path(made))
            for at, file in missing:
                _take(Path(made) / at, at, file)
    except OSError as error:
        raise Refused(
            f"the run's files cannot be written here: {error.strerror}",
            hint="make room where ftlaunch keeps its state, or set FTLAUNCH_STATE_DIR",
        ) from error


def _take(fetched: Path, at: PurePosixPath, file: LocalFile) -> None:
    if not _same(fetched, file):
        raise Lost(f"{at} is no longer what it was when the run began")
    file.here.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    partial = file.here.with_name(f"{file.here.name}.partial")
    shutil.copyfile(fetched, partial)
    partial.replace(file.here)


def _same(path: Path, file: LocalFile) -> bool:
    try:
        if path.stat().st_size != file.size_bytes:
            return False
        with path.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest() == file.sha256
    except OSError:
        return False
