"""One side of the rig: a process in a mount namespace of its own, and the daemons it was told of.

    python -m clouds.skypilot.world FOLDER laptop|cluster

It takes one JSON object a line, answers each with a line, and when its standard input ends it ends
what it started:
    {"do": "start", "name": …, "argv": […], "env": {…}}
    {"do": "end" | "signal" | "look", "name": …, "signal": 15}
    {"do": "kill", "name": …}     all processes of that name, whoever started them, and theirs
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_GRACE_S = 10.0


class World:
    """The daemons of one side, by name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, argv: Sequence[str], env: Mapping[str, str]) -> dict[str, Any]:
        """Start a daemon; its output goes to a log of that name."""
        with (self._folder / f"{name}.log").open("ab") as log:
            started = subprocess.Popen(
                argv,
                env=dict(env),
                cwd=env.get("HOME", "/"),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._running[name] = started
        return {"pid": started.pid}

    def signal(self, name: str, number: int) -> dict[str, Any]:
        """Send a signal to a daemon and all of its session."""
        os.killpg(self._running[name].pid, number)
        return {}

    def look(self, name: str) -> dict[str, Any]:
        """How a daemon has ended; None while it runs."""
        return {"code": self._running[name].poll()}

    def kill(self, name: str) -> dict[str, Any]:
        """Kill the processes of this namespace that are called so, and all that they started."""
        below, named = _processes(name)
        dead: list[int] = []
        while named:
            dead.append(one := named.pop())
            named += [child for child in below.get(one, ()) if child not in dead]
        for pid in dead:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return {"killed": len(dead)}

    def end(self, name: str, number: int) -> dict[str, Any]:
        """Send a signal to a daemon and all of its session, and wait for its end."""
        found = self._running.pop(name)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(found.pid, number)
        try:
            found.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(found.pid, signal.SIGKILL)
            found.wait()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(found.pid, signal.SIGKILL)
        return {"code": found.returncode}

    def all_ended(self) -> None:
        """End every daemon, the last one first."""
        for name in reversed(list(self._running)):
            self.end(name, signal.SIGTERM)


def _processes(name: str) -> tuple[dict[int, list[int]], list[int]]:
    """Whose children each process has, and which are called so."""
    below: dict[int, list[int]] = {}
    named = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            called, _, rest = path.read_text().partition("(")[2].rpartition(")")
            pid = int(path.parent.name)
            below.setdefault(int(rest.split()[1]), []).append(pid)
            if called.startswith(name):
                named.append(pid)
    return below, named


def main(folder: Path, side: str) -> None:
    """Serve requests until nobody is there to make any."""
    world = World(folder / "log")
    print(json.dumps({"side": side, "pid": os.getpid(), "at": time.time()}), flush=True)
    try:
        for line in sys.stdin:
            asked = json.loads(line)
            if asked["do"] == "start":
                answer = world.start(asked["name"], asked["argv"], asked["env"])
            elif asked["do"] == "look":
                answer = world.look(asked["name"])
            elif asked["do"] == "kill":
                answer = world.kill(asked["name"])
            elif asked["do"] == "signal":
                answer = world.signal(asked["name"], asked["signal"])
            else:
                answer = world.end(asked["name"], asked["signal"])
            print(json.dumps(answer), flush=True)
    finally:
        world.all_ended()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
