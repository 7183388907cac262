"""A job's ports, reached from this machine only: an sshd in its container, with a key of its own.

Modal's own tunnels are open to anybody who knows their address; so what goes through one is ssh.
"""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from backends.errors import Lost, NotLaunched, Unreachable
from backends.lease import Address
from backends.modal.records import Records
from backends.ssh.errors import SshError
from backends.ssh.host import Host, Target

_PATIENCE_S = 60.0


def public_key(records: Records, job: str) -> str:
    """The public half of a job's key, made now if need be. Raises NotLaunched."""
    private = _private(records, job)
    if not private.exists():
        private.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(private)]
        try:
            subprocess.run(argv, check=True, capture_output=True, stdin=subprocess.DEVNULL)
        except (OSError, subprocess.CalledProcessError) as error:
            raise NotLaunched(
                f"no SSH key can be made: {error}", hint="install OpenSSH (ssh, ssh-keygen)"
            ) from error
    return private.with_name(f"{job}.pub").read_text("ascii").strip()


def forget_key(records: Records, job: str) -> None:
    """Remove a job's key."""
    private = _private(records, job)
    with contextlib.suppress(OSError):
        private.unlink(missing_ok=True)
        private.with_name(f"{job}.pub").unlink(missing_ok=True)


def _private(records: Records, job: str) -> Path:
    return records.root / "keys" / job


@contextlib.contextmanager
def tunnel(
    records: Records,
    job: str,
    port: int,
    *,
    note: Callable[[], Mapping[str, Any]],
    queued: Callable[[], bool],
) -> Iterator[Address]:
    """A forward to a port of the job's own loopback.

    note    what the container has written down of itself
    queued  whether there is no container yet: it is waited for
    Raises Lost for a job of another computer, Unreachable when its door does not open.
    """
    private = _private(records, job)
    if not private.exists():
        raise Lost(f"the key to {job} is on the computer that launched it")
    found = _door(note, queued)
    with tempfile.TemporaryDirectory(prefix="ftl-") as folder:
        known = Path(folder) / "known_hosts"
        known.write_text(f"[{found['host']}]:{found['port']} {found['key']}\n", encoding="ascii")
        target = Target(user=found["user"], host=found["host"], port=int(found["port"]))
        host = Host(target, key=private, known_hosts=known, folder=Path(folder))
        try:
            with host.forward(port) as address:
                yield address
        except SshError as error:
            raise Unreachable(f"{job} does not answer: {error.message}", hint=error.hint) from error
        finally:
            host.close()


def _door(note: Callable[[], Mapping[str, Any]], queued: Callable[[], bool]) -> Mapping[str, Any]:
    end = time.monotonic() + _PATIENCE_S
    while True:
        found = note().get("door")
        if isinstance(found, dict):
            return found
        if queued():  # no patience is spent on a container that is not there yet
            end = time.monotonic() + _PATIENCE_S
        if time.monotonic() > end:
            raise Unreachable("the job's container has not opened its door", hint="try again")
        time.sleep(0.5)
