"""A conductor that says where it is, and meets its fault at a place that is chosen.

    python -m skypilot_faults.client RUN_ID      told by SKYPILOT_FAULTS: `Told`, in JSON

Everything that passes is written to a trace: a case whose fault did not strike is found out.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backends.skypilot import offers
from backends.skypilot.records import Cluster, Records
from launcher.run import conductor
from launcher.store.jobs import Jobs

VARIABLE = "SKYPILOT_FAULTS"
AFTER_STEP = {
    "mark_intent": "launch",
    "mark_launched": "observe",
    "mark_ended": "fetch",
    "mark_pulled": "release",
    "mark_closed": "end",
}
STEPS = (*AFTER_STEP, "save_lease", "set_phase")


@dataclass
class Told:
    """What a client is told.

    way    the address of the way to the API server
    phase  where the fault waits;  call: of `way.CALLS`, a journal step, or what is brought about
    fault  see `cases.Case.how`
    idle_minutes  after which a cluster whose disk outlives it takes itself down, if not as usual
    """

    trace: str
    way: str
    phase: str = ""
    call: str = ""
    fault: dict[str, Any] = field(default_factory=dict)
    idle_minutes: int | None = None


class Hooks:
    """One client's place, and its fault."""

    def __init__(self, told: Told) -> None:
        self._told = told
        self._at = "start"
        self._armed = False
        self._struck = False

    def note(self, what: str, **more: Any) -> None:
        row = {"what": what, "phase": self._at, "at": time.monotonic(), **more}
        with Path(self._told.trace).open("a") as file:
            file.write(json.dumps(row) + "\n")

    def enter(self, phase: str) -> None:
        self._at = phase
        self.note("phase", calls=self._way("passed"))
        if phase == self._told.phase and not self._armed:
            self._armed = True
            self._arm()

    def _arm(self) -> None:
        fault = dict(self._told.fault)
        kind = fault.pop("kind", "")
        if kind == "call":
            self.note("armed", number=self._way("arm", call=self._told.call, **fault))
        elif kind == "refuse":
            self._way("refuse", **fault)
            self.note("struck")
        elif kind == "happens":
            threading.Thread(target=self._happens, args=(fault,), daemon=True).start()

    def _happens(self, fault: dict[str, Any]) -> None:
        time.sleep(fault.get("wait", 0.0))
        self.note("struck")
        self._way("bring_about", what=fault["do"])

    def pass_by(self, name: str, when: str) -> None:
        fits = self._told.call == name and self._at == self._told.phase and not self._struck
        if fits and self._told.fault.get("when") == when:
            self._struck = True
            self.note("struck")
            os.kill(os.getpid(), signal.SIGKILL)

    def _way(self, verb: str, **arguments: Any) -> Any:
        request = urllib.request.Request(
            f"{self._told.way}/-/{verb}",
            data=json.dumps(arguments).encode(),
            headers={"content-type": "application/json"},
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=120) as reply:
            return json.loads(reply.read())


def install(told: Told) -> None:
    """Put the hooks into this process."""
    if told.idle_minutes is not None:
        offers.IDLE_SHARED = told.idle_minutes
    hooks = Hooks(told)
    for name in STEPS:
        _watch_step(hooks, name)
    write = Records._write

    def watched(self: Records, cluster: Cluster) -> None:
        stages = "+".join(sorted({note.stage.value for note in cluster.jobs.values()})) or "no job"
        asked = ", asked" if cluster.request and cluster.held.value == "asked" else ""
        name = f"record {cluster.held.value}{asked}: {stages}"
        hooks.note("step", name=name)
        hooks.pass_by(name, "before")
        write(self, cluster)
        hooks.pass_by(name, "after")

    Records._write = watched  # type: ignore[method-assign]
    hooks.enter("start")


def _watch_step(hooks: Hooks, name: str) -> None:
    write: Callable[..., Any] = getattr(Jobs, name)

    def watched(self: Jobs, job_id: int, *rest: Any, **more: Any) -> Any:
        hooks.note("step", name=name)
        hooks.pass_by(name, "before")
        done = write(self, job_id, *rest, **more)
        hooks.pass_by(name, "after")
        if name in AFTER_STEP:
            hooks.enter(f"{self.job(job_id).kind} {AFTER_STEP[name]}")
        return done

    setattr(Jobs, name, watched)


if __name__ == "__main__":
    install(Told(**json.loads(os.environ[VARIABLE])))
    conductor.conduct(sys.argv[1])
