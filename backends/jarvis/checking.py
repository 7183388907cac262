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
from backends.jarvis.records import Held, Records
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
    """See `Backend.clean`."""
    done: list[Finding] = []
    try:
        for box in records.all():
            if box.held is Held.GONE:
                records.forget(box)
            elif not box.open_jobs() and not box.kept_jobs():
                with records.claim(box.key):
                    machines.destroy(box)
                    records.forget(box)
                done.append(Finding("machine", True, f"{box.name} is destroyed: no job needs it"))
        if not any(box.held is not Held.GONE for box in records.all()):
            removed = keys.clean(account, records.root / "key")
            if removed is not None:
                done.append(Finding("SSH key", True, f"removed: {removed}"))
    except FtlaunchError as error:
        hint = error.hint or f"try again, or look at {DASHBOARD}"
        done.append(Finding("clean-up", False, error.message, hint))
    return done
