"""Results that were pulled already and are wanted in another folder: copied, checked as they go."""

from __future__ import annotations

import shutil
from pathlib import Path

from backends.errors import Lost, Refused
from launcher.run.inventory import home, inventory_here, manifest_here, manifest_in
from launcher.run.pull import Pulled, is_same
from launcher.store import JobRecord, RunRecord


def copied(run: RunRecord, job: JobRecord, into: Path) -> Pulled | None:
    """A job's results, as they were pulled, in `into`; None where none were.

    Raises Lost for one that is not what it was, Refused when they cannot be written.
    """
    entries = inventory_here(run, job)
    if entries is None:
        return None
    here = home(run, job)
    # The list has all that the job made; what was asked for of it is what is here.
    mine = tuple(entry for entry in entries if (here / entry.path).is_file())
    try:
        for entry in mine:
            if entry.sha256 is not None and not is_same(here / entry.path, entry):
                raise Lost(f"{here / entry.path} is not what it was when it was pulled")
            if into != here:
                _copy(here / entry.path, into / entry.path)
        if into != here:
            _copy(manifest_here(run, job), manifest_in(into, job))
    except OSError as error:
        raise Refused(f"the results cannot be written to {into}: {error.strerror}") from error
    return Pulled(into=into, files=mine, verified=all(entry.sha256 for entry in mine))


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    shutil.copyfile(source, partial)
    partial.replace(target)
