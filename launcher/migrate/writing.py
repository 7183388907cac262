"""A migrated recipe put in the place of the old one, which stays beside it."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from backends.errors import BadInput, Refused
from launcher.migrate import Migration
from launcher.wording import shown


def write(migration: Migration) -> list[Path]:
    """Replace the file in one step; returns what was written, the backup first.

    Raises BadInput where there is no file to replace or its backup would overwrite another,
    Refused when the folder cannot be written.
    """
    if migration.path is None:
        raise BadInput(
            f"{migration.label} is not a file of yours, and cannot be replaced",
            hint="save it first; a bundled recipe: ftlaunch recipes copy NAME",
        )
    path = Path(os.path.realpath(migration.path))
    backup = path.with_name(f"{path.name}.bak")
    written: list[Path] = []
    try:
        for target, ours in migration.supplied.items():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ours, target)
            written.append(target)
        if migration.after != migration.before:
            if os.path.lexists(backup):
                raise BadInput(
                    f"{shown(backup.name)} is there already, and would be overwritten",
                    hint="move it away, then say it again",
                )
            shutil.copy2(path, backup)
            _replace(path, migration.after)
            written = [backup, path, *written]
    except OSError as problem:
        raise Refused(f"{shown(path)} cannot be replaced: {problem.strerror or problem}") from None
    return written


def _replace(path: Path, text: str) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(text.encode("utf-8"))
            file.flush()
            os.fsync(file.fileno())
        shutil.copymode(path, name)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
