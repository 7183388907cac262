"""`ftlaunch check`: can Modal be used, what of ours is there, and cleaning up."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from backends.errors import CredentialsMissing, FtlaunchError
from backends.lease import Finding
from backends.modal.account import Account
from backends.modal.records import Records, Stage


def check(account: Account, records: Records) -> list[Finding]:
    """See `Backend.check`."""
    return [*_state(records.root), *_account(account)]


def _state(root: Path) -> Iterator[Finding]:
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=root):
            pass
    except OSError as error:
        hint = "make it a folder you can write to, or set FTLAUNCH_STATE_DIR to another"
        yield Finding("state folder", False, f"{root}: {error.strerror}", hint)
        return
    yield Finding("state folder", True, str(root))


def _account(account: Account) -> Iterator[Finding]:
    try:
        _ = account.client
        running, volumes = account.apps(), account.volumes()
    except CredentialsMissing as error:
        unset = "no token" in error.message or "not installed" in error.message
        yield Finding("account", False, error.message, error.hint, unset=unset)
        return
    except FtlaunchError as error:
        yield Finding("account", False, error.message, error.hint or "try again later")
        return
    yield Finding("account", True, "the token is accepted")
    said = ", ".join(job for _, job in running) or "none"
    yield Finding("apps of ftlaunch", True, said)
    if volumes:
        # Base models and data that runs share are worth their rent, until one stops training.
        names = ", ".join(volumes)
        rid = "; ".join(f"modal volume delete {name}" for name in volumes)
        yield Finding("volumes", True, f"{names}: billed by the month (none needed? {rid})")


def clean(records: Records) -> list[Finding]:
    """See `Backend.clean`: what no job needs is an old note; files that are kept stay."""
    found = []
    for note in records.all():
        if records.claimed(note.job) or note.stage is not Stage.RELEASED or note.kept:
            continue
        records.forget(note.job)
        found.append(Finding("note", True, f"what was known of {note.job} is removed"))
    return found
