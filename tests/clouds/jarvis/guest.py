"""Somebody with a key and an ssh client, who knows no launcher: how tests get onto machines."""

from __future__ import annotations

import shlex
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

_OPTIONS = (
    "-F", "none", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-o", "LogLevel=ERROR",
    "-o", "StrictHostKeyChecking=accept-new",
)  # fmt: skip


@dataclass
class Guest:
    """A key pair in a folder, and what it opens."""

    folder: Path
    timeout: int = 5
    """Seconds to wait for a connection."""
    known_hosts: Path = field(init=False)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.known_hosts = self.folder / "known_hosts"
        self.key = self.folder / "id_ed25519"
        if not self.key.exists():
            making = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.key)]
            subprocess.run(making, check=True)

    @property
    def public(self) -> str:
        """What is registered at the provider."""
        return self.key.with_suffix(".pub").read_text()

    def command(self, ssh: str, *words: str) -> list[str]:
        """The provider's ssh command with our key, and what to run."""
        given = shlex.split(ssh)[1:]
        own = ["-i", str(self.key), "-o", f"UserKnownHostsFile={self.known_hosts}"]
        own += ["-o", f"ConnectTimeout={self.timeout}"]
        return ["ssh", *_OPTIONS, *own, *given, *words]

    def run(self, ssh: str, script: str) -> subprocess.CompletedProcess[str]:
        """Run a script by a login shell there, once; 255 means that ssh itself failed."""
        command = self.command(ssh, f"sh -lc {shlex.quote(script)}")
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def wait(self, ssh: str) -> None:
        """Until a command runs there. "Running" is not "reachable"."""
        until(lambda: self.run(ssh, "true").returncode != 255)

    def says(self, ssh: str, script: str) -> str:
        """What a script prints there; it must succeed."""
        done = self.run(ssh, script)
        if done.returncode != 0:
            raise RuntimeError(f"{script!r} there: {done.returncode} {done.stderr}")
        return done.stdout.strip()


def until(done: Callable[[], bool], patience: float = 60) -> None:
    """Wait for what must come; no test is decided by how fast it does."""
    limit = time.monotonic() + patience
    while not done():
        if time.monotonic() > limit:
            raise TimeoutError("it did not come")
        time.sleep(0.05)
