"""The SSH key that machines are made with: there before the first create, or nothing is created.

A machine takes its keys when it boots, and never again: one that boots without ours bills and
cannot be reached. The user's own key is used when the account has it and it works without a
question; else one of ours is made, registered, and removed again by `ftlaunch check --clean`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

from backends.errors import NotLaunched, Refused
from backends.jarvis.api import Account

CLAIM = "ssh-key"
"""Held (`Records.claim`) from `ready` until the machine that needs the key is noted, and by who
takes the key away: between the two it would be nobody's."""

_OURS = "id_ed25519"
_NAME = "ftlaunch"
_LIMIT = 10
"""Keys an account can have."""


def ready(account: Account, folder: Path, home: Path) -> Path:
    """The private key that new machines will accept.

    folder  where ours lies, or will
    home    the user's home directory, with `.ssh` in it
    The caller holds `CLAIM`, and notes its machine before it lets go of that.
    Raises NotLaunched when it cannot be made, Refused for a key of the user's with wrong modes.
    """
    with _alone(folder):
        registered = {_body(text) for text, _ in account.keys().values()}
        ours = folder / _OURS
        if ours.exists() and _body(_public(ours)) in registered:
            ours.chmod(0o600)
            return ours
        own = _users_own(home, registered)
        if own is not None:
            return own
        return _register(account, ours, len(registered))


def known(folder: Path, home: Path) -> list[Path]:
    """Private keys that a machine may accept, ours first: for machines made by somebody else."""
    ours = folder / _OURS
    found = [ours] if ours.exists() else []
    return found + [path for path in _candidates(home) if _usable(path)]


def clean(account: Account, folder: Path) -> str | None:
    """Take our key off the account and away from here; what was removed, or None.

    The caller holds `CLAIM`, and has seen that no machine needs it.
    """
    ours = folder / _OURS
    if not ours.exists():
        return None
    with _alone(folder):
        body = _body(_public(ours))
        removed = [key for key, (text, _) in account.keys().items() if _body(text) == body]
        for key in removed:
            account.remove_key(key)
        ours.with_suffix(".pub").unlink(missing_ok=True)
        ours.unlink()
    return f"the key that ftlaunch made ({len(removed)} on the account)"


def _register(account: Account, ours: Path, count: int) -> Path:
    if count >= _LIMIT:
        raise NotLaunched(
            f"the account has {count} SSH keys, as many as it may have, and none of this machine",
            hint="remove one with: jl ssh-key remove ID (see: jl ssh-key list)",
        )
    if not ours.exists():
        _make(ours)
    text = _public(ours)
    try:
        account.add_key(text, f"{_NAME}-{socket.gethostname()[:20]}")
    except NotLaunched:
        # The answer may be what was lost: what counts is whether the account has it now.
        if _body(text) not in {_body(known) for known, _ in account.keys().values()}:
            raise
    return ours


def _make(ours: Path) -> None:
    comment = f"{_NAME}@{socket.gethostname()}"
    # An empty passphrase in argv is no secret: this key has none, and lies in a 0700 folder.
    argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(ours)]
    try:
        subprocess.run(argv, check=True, capture_output=True, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.CalledProcessError) as error:
        raise NotLaunched(
            f"no SSH key can be made: {error}", hint="install OpenSSH (ssh, ssh-keygen)"
        ) from error


def _users_own(home: Path, registered: set[str]) -> Path | None:
    """A key of the user's that the account has and that asks for nothing."""
    for path in _candidates(home):
        if _body(_public(path)) not in registered:
            continue
        if path.stat().st_mode & 0o077:
            raise Refused(
                f"ssh will not use {path}: others can read it",
                hint=f"make it yours alone with: chmod 600 {path}",
            )
        if _usable(path):
            return path
    return None


def _candidates(home: Path) -> list[Path]:
    publics = sorted((home / ".ssh").glob("*.pub"))
    return [path.with_suffix("") for path in publics if path.with_suffix("").is_file()]


def _usable(private: Path) -> bool:
    """Whether it opens without a passphrase."""
    argv = ["ssh-keygen", "-y", "-P", "", "-f", str(private)]
    try:
        done = subprocess.run(argv, check=False, capture_output=True, stdin=subprocess.DEVNULL)
    except OSError:
        return False
    return done.returncode == 0


def _public(private: Path) -> str:
    try:
        return private.with_name(f"{private.name}.pub").read_text("utf-8", "replace")
    except OSError:
        return ""


def _body(text: str) -> str:
    """Type and key, without the comment: what makes two keys the same."""
    return " ".join(text.split()[:2])


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
