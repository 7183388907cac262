"""The command line as a user runs it: a process of its own, in folders of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.store import Store, open_store

FTLAUNCH = str(Path(sys.executable).with_name("ftlaunch"))


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        return self.out + self.err

    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True)
class Desk:
    """A user's working directory, with a state directory that nobody else has."""

    here: Path
    state: Path
    variables: dict[str, str]

    @property
    def environ(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("FTLAUNCH_STATE")}
        return {**kept, "FTLAUNCH_STATE_DIR": str(self.state), **self.variables}

    def run(self, *argv: str, timeout: float = 900, **variables: str) -> Ended:
        ended = subprocess.run(  # noqa: PLW1510 - its code is what the tests look at
            [FTLAUNCH, *argv],
            cwd=self.here,
            env={**self.environ, **variables},
            capture_output=True,
            text=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
        )
        return Ended(ended.returncode, ended.stdout, ended.stderr)

    def start(self, *argv: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [FTLAUNCH, *argv],
            cwd=self.here,
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            # A test run that is itself in the background of a shell has interrupts turned off.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
        )

    def store(self) -> Store:
        return open_store(self.state)
