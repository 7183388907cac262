"""Our far-side programs as ssh would run them, without the ssh: a process and its answer."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from backends import runner
from backends.ssh import programs

LONGEST_S = 60.0
"""Only ends a test that is broken; no test waits for it otherwise."""


class Far:
    """A machine's workplace in a folder of the test's own."""

    def __init__(self, python: str, root: Path) -> None:
        self.python = python
        self.root = root
        self.env: dict[str, str] = dict(os.environ)
        self._going_on: list[subprocess.Popen[bytes]] = []

    def home(self, job: str = "job") -> Path:
        return self.root / "runs" / job

    def request(self, job: str = "job", **more: Any) -> dict[str, Any]:
        home = str(self.home(job))
        return {"root": str(self.root), "job": job, "home": home, "by": "this", **more}

    def ask(self, program: str, command: str, job: str = "job", **more: Any) -> dict[str, Any]:
        """One request and its answer."""
        done = subprocess.run(
            programs.argv(self.python, program, command),
            input=programs.sent(program, self.request(job, **more)),
            capture_output=True,
            timeout=LONGEST_S,
            check=False,
            env=self.env,
        )
        assert done.returncode == 0, done
        assert done.stderr == b"", done
        return programs.parsed(done.stdout)

    def popen(self, program: str, command: str, **more: Any) -> subprocess.Popen[bytes]:
        """A program that goes on; its request is sent."""
        process = subprocess.Popen(
            programs.argv(self.python, program, command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=self.env,
        )
        self._going_on.append(process)
        assert process.stdin is not None
        process.stdin.write(programs.sent(program, self.request(**more)))
        process.stdin.flush()
        return process

    def laid(self, code: str, job: str = "job", **more: Any) -> Path:
        """A run directory with a runner and a plan of one step, a piece of Python."""
        home = self.home(job)
        home.mkdir(parents=True, mode=0o700)
        steps = [{"name": "only", "argv": [sys.executable, "-S", "-E", "-c", code]}]
        plan = {"schema": 1, "job": job, "outputs": ["output/**"], "steps": steps, **more}
        (home / "plan.json").write_text(json.dumps(plan))
        (home / "runner.py").write_bytes(Path(runner.__file__).read_bytes())
        return home

    def start(self, job: str = "job", env: Mapping[str, str] | None = None) -> dict[str, Any]:
        return self.ask("place", "start", job, env=dict(env or {}), note={"software": "its own"})

    def status(self, job: str = "job") -> dict[str, Any]:
        return self.ask("place", "status", job)

    def log(self, job: str = "job") -> str:
        """What the steps said."""
        parts = sorted(self.home(job).glob("logs/*/*.log"))
        return "".join(path.read_text() for path in parts)

    def until_ended(self, job: str = "job") -> dict[str, Any]:
        until(f"the end of {job}", lambda: not runner.status(str(self.home(job)))["alive"])
        found = runner.status(str(self.home(job)))
        assert isinstance(found, dict)
        return found

    def close(self) -> None:
        """End every program and every job."""
        for process in self._going_on:
            assert process.stdin is not None
            assert process.stdout is not None
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            process.wait(timeout=LONGEST_S)
            process.stdout.close()
        for home in self.root.glob("runs/*"):
            if (home / "plan.json").exists():
                runner.request_stop(str(home), 0.0)
                until("its end", lambda: not runner.status(str(home))["alive"])  # noqa: B023


def until(what: str, true: Callable[[], object]) -> None:
    """Wait for something that must come."""
    end = time.monotonic() + LONGEST_S
    while not true():
        assert time.monotonic() < end, f"never came: {what}"
        time.sleep(0.01)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)
