"""The runner of a job: started, looked at, ended. The runner itself is `backends.runner`."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backends import rundir, runner
from backends.errors import MayStillBill, NotLaunched

_QUIET_S = 30.0
"""A runner that was told to end, and in this time neither ends nor writes, hangs."""


@dataclass(frozen=True)
class Seen:
    """A look at a run directory.

    state     the runner's, checked against its lock; None before it has written one
    alive     the runner holds its lock
    leftover  the runner is gone and a step of it still runs
    """

    state: dict[str, Any] | None
    alive: bool
    leftover: bool


def look(home: Path) -> Seen:
    """How the job in a run directory stands."""
    found = runner.status(str(home))
    alive = bool(found.pop("alive"))
    if found["phase"] == "absent":
        return Seen(None, alive=False, leftover=False)
    leftover = found["phase"] == "lost" and runner.leftover_group(found) is not None
    return Seen(found, alive=alive, leftover=leftover)


def source() -> bytes:
    """The runner's own file."""
    return Path(runner.__file__).read_bytes()


def start(home: Path, environment: Mapping[str, str], claim: int) -> None:
    """Start the runner that lies in the run directory; returns once it holds its lock.

    claim  a descriptor that the starting process keeps open: others stay out until it is done,
           also when this process dies meanwhile
    Raises NotLaunched with the runner's own words.
    """
    argv = [sys.executable, "-I", str(home / rundir.RUNNER), "start", "--", str(home)]
    done = subprocess.run(
        argv,
        env=dict(environment),
        cwd=home,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        pass_fds=(claim,),
        start_new_session=True,  # Ctrl-C here is not meant for the job
    )
    if done.returncode != 0:
        words = done.stderr.decode("utf-8", "replace").strip() or "it said nothing"
        raise NotLaunched(f"the job's runner did not start: {words}")


def end(home: Path) -> None:
    """End whatever works in a run directory, and be sure of it.

    Raises MayStillBill when something does not die.
    """
    seen = look(home)
    if seen.state is None and not seen.alive:
        return
    runner.request_stop(str(home), 0.0)
    seen = _settled(home)
    if seen.alive and seen.state is not None:  # it hangs, or somebody has suspended it
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(seen.state["pid"]), signal.SIGKILL)
        seen = _settled(home)
    if seen.alive or seen.leftover:
        group = (seen.state or {}).get("pgid") or (seen.state or {}).get("pid")
        raise MayStillBill(
            f"a process of {home.name} does not die",
            hint=f"it may hang in the kernel; look at it with: ps -o pid,stat,args -g {group}",
        )


def _settled(home: Path) -> Seen:
    """The state of a run that was told to end: when it has, or when nothing moves any more."""
    version: object = None
    since = time.monotonic()
    while True:
        seen = look(home)
        if seen.leftover:
            runner.request_stop(str(home), 0.0)  # with no runner left, this ends the step itself
            seen = look(home)
        if not (seen.alive or seen.leftover):
            return seen
        now = (seen.state or {}).get("version")
        if now != version:
            version, since = now, time.monotonic()
        if time.monotonic() - since > _QUIET_S:
            return seen
        time.sleep(0.02)
