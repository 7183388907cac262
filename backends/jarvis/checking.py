"""`ftlaunch check`: can this backend be used, what of ours is at the provider, and cleaning up."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from backends.errors import FtlaunchError
from backends.jarvis import keys
from backends.jarvis.api import DASHBOARD, Account
from backends.jarvis.machines import Machines
from backends.jarvis.records import Box, Held, Records
from backends.jarvis.tags import is_ours
from backends.lease import Finding


def check(account: Account, records: Records) -> list[Finding]:
    """See `Backend.check`."""
    return [*_state(records.root), *_programs(), *_account(account)]


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


def _programs() -> Iterator[Finding]:
    for program in ("ssh", "ssh-keygen"):
        found = shutil.which(program)
        hint = "" if found else "install OpenSSH's client"
        yield Finding(program, found is not None, found or "not on PATH", hint)


def _account(account: Account) -> Iterator[Finding]:
    try:
        _ = account.key
    except FtlaunchError as error:
        yield Finding("account", False, error.message, error.hint, unset=True)
        return
    try:
        left, currency = account.balance()
        yield Finding("account", True, f"the key is accepted; balance {left:.2f} {currency}")
        ours = [row for row in account.machines() if is_ours(row.name)]
        said = ", ".join(f"{row.name} ({row.status.lower()})" for row in ours) or "none"
        yield Finding("machines of ftlaunch", True, said)
    except FtlaunchError as error:
        yield Finding("account", False, error.message, error.hint or "try again later")


def clean(account: Account, records: Records, machines: Machines) -> list[Finding]:
    """See `Backend.clean`. What is not in the records is another computer's, and stays."""
    return [*_machines(records, machines), *_key(account, records)]


def _machines(records: Records, machines: Machines) -> Iterator[Finding]:
    for box in records.all():
        if records.claimed(box.key):
            continue  # somebody works on it, so it is needed
        try:
            with records.claim(box.key):
                done = _unneeded(records, machines, records.box(box.key))
        except FtlaunchError as error:
            hint = error.hint or f"try again, or look at {DASHBOARD}"
            yield Finding("machine", False, error.message, hint, bills=True)
            continue
        if done:
            yield Finding("machine", True, done)


def _unneeded(records: Records, machines: Machines, box: Box | None) -> str | None:
    """End a machine that no job needs and forget it; what was done. The caller holds its claim."""
    if box is not None and box.roused:
        box = machines.pause(box)
        return f"{box.name} is paused: nobody needs it awake"
    if box is None or box.kept_jobs():
        return None
    if box.open_jobs():
        if _only_looked_at(box) and machines.look_well(box) is None:
            records.forget(box)
        return None
    if box.held is not Held.GONE:
        box = machines.destroy(box)
        records.forget(box)
        return f"{box.name} is destroyed: no job needs it"
    records.forget(box)
    return None


def _only_looked_at(box: Box) -> bool:
    """Launched from another computer, and nothing is known here but that it was there."""
    return all(not note.request and note.verdict is None for note in box.jobs.values())


def _key(account: Account, records: Records) -> Iterator[Finding]:
    try:
        with records.claim(keys.CLAIM):
            if any(box.held is not Held.GONE for box in records.all()):
                return
            removed = keys.clean(account, records.root / "key")
    except FtlaunchError as error:
        hint = error.hint or f"try again, or look at {DASHBOARD}"
        yield Finding("SSH key", False, error.message, hint)
        return
    if removed is not None:
        yield Finding("SSH key", True, f"removed: {removed}")
