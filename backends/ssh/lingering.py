"""A connection that belongs to no process: whoever needs it first makes it, and it ends unused.

It is `ssh`'s own way of sharing one. Who looks for it finds its socket by the target's name; two
who find none at once agree by a lock.
"""

from __future__ import annotations

import fcntl
import hashlib
import subprocess
import tempfile
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from backends.ssh.errors import NoAnswer
from backends.ssh.shell import CONNECT_S, surroundings

if TYPE_CHECKING:
    from backends.ssh.host import Host

LINGER = timedelta(seconds=120)
"""How long it waits for its next use."""
LONGEST_FOLDER = 104 - 1 - 17 - 17
"""Bytes of the name of the folder of its socket. macOS: 104 with the closing zero; ssh binds a name
that is 17 longer, then renames; the socket's own name is 16 after a slash."""


@dataclass(frozen=True)
class Shared:
    """Its socket, and what was learnt when it was joined."""

    socket: Path
    python: str | None


def joined(host: Host, folder: Path, known: Shared | None) -> Shared:
    """The connection to a host that all share, found or made.

    known  what this process has joined before
    Raises what `Host.failure` gives, NoAnswer.
    """
    named = hashlib.sha256(f"{host.target!r}{host.key}".encode()).hexdigest()[:16]
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    socket = folder / named
    if known is not None and _answers(host, socket):
        return known
    with (folder / f"{named}.lock").open("w") as door:
        fcntl.flock(door, fcntl.LOCK_EX)
        if not _answers(host, socket):
            socket.unlink(missing_ok=True)
            _begin(host, socket)
    return Shared(socket, host.probed(socket))


def _answers(host: Host, socket: Path) -> bool:
    if not socket.exists():
        return False
    argv = [*host.ssh(socket, "no"), "-O", "check", "--", host.target.host]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    return done.returncode == 0


def _begin(host: Host, socket: Path) -> None:
    """Leave a connection in the background that ends by itself."""
    keeps = ["-o", f"ControlPersist={LINGER.total_seconds():.0f}", "-f", "-N"]
    argv = [*host.ssh(socket, "yes"), *keeps, "--", host.target.host]
    with tempfile.TemporaryFile() as said:
        try:
            done = subprocess.run(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
                env=surroundings(),
                start_new_session=True,
                timeout=CONNECT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise NoAnswer(f"{host.target} does not answer within {CONNECT_S:g} s") from None
        if done.returncode:
            said.seek(0)
            raise host.failure(said.read())
