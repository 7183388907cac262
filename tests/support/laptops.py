"""Computers of one user: each with a home, a state and a folder of its own, one account for all."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from clouds.jarvis.guest import Guest
from jarvis_rig import OnJarvis, jarvis

from launcher.store import RunRecord, Store, open_store

FTLAUNCH = str(Path(sys.executable).with_name("ftlaunch"))


@dataclass
class Laptop:
    """One computer."""

    folder: Path
    variables: Mapping[str, str]
    conductors: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def store(self) -> Store:
        return open_store(self.state)

    @property
    def environ(self) -> dict[str, str]:
        own = {"HOME": str(self.folder / "home"), "FTLAUNCH_STATE_DIR": str(self.state)}
        return {**os.environ, **self.variables, **own}

    def ask(self, *argv: str, **more: str) -> subprocess.CompletedProcess[str]:
        here = self.folder / "here"
        here.mkdir(exist_ok=True)
        return subprocess.run(
            [FTLAUNCH, *argv],
            cwd=here,
            env={**self.environ, **more},
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
            stdin=subprocess.DEVNULL,
        )

    def conduct(self, run: RunRecord) -> subprocess.Popen[bytes]:
        argv = [sys.executable, "-m", "launcher.run.conductor", run.id]
        process = subprocess.Popen(argv, env=self.environ, start_new_session=True)
        self.conductors.append(process)
        return process

    def dies(self) -> None:
        """It is closed for ever: nobody conducts anything there any more."""
        for process in self.conductors:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGKILL)
            process.wait()


@dataclass(frozen=True)
class Office:
    """An account, and the computers that use it."""

    rig: OnJarvis
    folder: Path

    def laptop(self, name: str, *, key: bool = True) -> Laptop:
        """A computer; without `key` it has no SSH key that a machine of the others accepts."""
        folder = self.folder / name
        (folder / "home" / ".ssh").mkdir(parents=True, mode=0o700)
        if key:
            guest = Guest(self.folder / "users-own")
            for suffix in ("", ".pub"):
                here = folder / "home" / ".ssh" / f"id_ed25519{suffix}"
                here.write_bytes(guest.key.with_name(f"id_ed25519{suffix}").read_bytes())
                here.chmod(0o600)
        return Laptop(folder, dict(os.environ))

    def at_rest(self) -> bool:
        """Whether nothing of any machine bills, once what the provider ends has ended."""
        return bool(
            until("the end of all bills", lambda: not self.rig.provider.meter.billing(), 20)
        )


@contextlib.contextmanager
def office(folder: Path) -> Iterator[Office]:
    """An account whose owner's SSH key is registered."""
    from jarvislabs import Client

    with jarvis(folder / "cloud", folder / "unused") as rig:
        made = Office(rig, folder)
        with Client(rig.provider.key) as client:
            client.ssh_keys.add(Guest(folder / "users-own").public, "mine")
        yield made


def until(what: str, look: Callable[[], Any], patience_s: float = 90) -> Any:
    """What `look` returns as soon as that is something."""
    end = time.monotonic() + patience_s
    while not (found := look()):
        if time.monotonic() > end:
            pytest.fail(f"waited in vain for {what}")
        time.sleep(0.1)
    return found
