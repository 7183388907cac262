"""A conductor that says where it is, and meets its fault at a place that is chosen.

    python -m modal_faults.client RUN_ID      told by MODAL_FAULTS: `Told`, in JSON

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

from backends.modal.records import Note, Records
from launcher.run import conductor
from launcher.store.jobs import Jobs

VARIABLE = "MODAL_FAULTS"
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

    admin  the address of the cloud's back door
    phase  where the fault waits;  call: an RPC, a step, or `container`
    fault  see `cases.Case.how`
    """

    trace: str
    admin: str
    phase: str = ""
    call: str = ""
    fault: dict[str, Any] = field(default_factory=dict)


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
        self.note("phase", calls=len(self.admin("state")["rpcs"]))
        if phase == self._told.phase and not self._armed:
            self._armed = True
            self._arm()

    def _arm(self) -> None:
        fault = dict(self._told.fault)
        kind = fault.pop("kind", "")
        if kind == "call":
            number = self.admin("fail", name=self._told.call, **fault)
            self.note("armed", number=number)
        elif kind == "container":
            threading.Thread(target=self._hurt, args=(fault,), daemon=True).start()

    def _hurt(self, fault: dict[str, Any]) -> None:
        time.sleep(fault["wait"])
        for call in self.admin("state")["calls"]:
            if call["running"]:
                more = {"grace": 5.0} if fault["do"] == "preempt" else {}
                self.admin(fault["do"], call=call["id"], rank=0, **more)
        self.note("struck")

    def pass_by(self, name: str, when: str) -> None:
        fits = self._told.call == name and self._at == self._told.phase and not self._struck
        if fits and self._told.fault.get("when") == when:
            self._struck = True
            self.note("struck")
            os.kill(os.getpid(), signal.SIGKILL)

    def admin(self, verb: str, **arguments: Any) -> Any:
        request = urllib.request.Request(
            f"{self._told.admin}/{verb}",
            data=json.dumps(arguments).encode(),
            headers={"content-type": "application/json"},
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=60) as reply:
            return json.loads(reply.read())


def install(told: Told) -> None:
    """Put the hooks into this process."""
    hooks = Hooks(told)
    for name in STEPS:
        _watch_step(hooks, name)
    save = Records.save

    def watched(self: Records, note: Note) -> Note:
        name = f"record {note.stage.value}"
        hooks.note("step", name=name)
        hooks.pass_by(name, "before")
        done = save(self, note)
        hooks.pass_by(name, "after")
        return done

    Records.save = watched  # type: ignore[method-assign]
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
