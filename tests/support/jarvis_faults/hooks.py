"""What is put into a client: it says where it is, and meets its fault at a place that is chosen.

A place is a phase, and a call or a journal step in it. Phases follow the journal: `start` until
something is decided, then `launch`, `observe`, `fetch`, `release` and `end`, for each job anew.
Journal steps are what is written: the steps of the launcher's store, the states of the backend's
records. Everything that passes is written to a trace, so that a case whose fault did not strike is
found out.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backends.jarvis.records import Box, Records
from jarvis_faults import careless
from launcher.store.jobs import Jobs

AFTER_STEP = {
    "mark_intent": "launch",
    "mark_launched": "observe",
    "mark_ended": "fetch",
    "mark_pulled": "release",
    "mark_closed": "end",
}
STEPS = (*AFTER_STEP, "save_lease", "set_phase")


@dataclass
class Hooks:
    """What one client was told, and what it has come to.

    phase     where the fault waits
    call      method, path (a regex) and how many of them are spared there
    step      instead of a call: a journal step
    fault     see `jarvis_faults.cases.Fault`
    door      port and key of the cloud's back door
    machine   the name of the run's machine, as a regex
    began     the phase this client begins in
    """

    trace: Path
    door: tuple[int, str]
    machine: str
    began: str = "start"
    phase: str | None = None
    call: tuple[str, str, int] | None = None
    step: str | None = None
    fault: dict[str, Any] = field(default_factory=dict)
    careless: str | None = None
    at: str = ""
    seen: Counter[str] = field(default_factory=Counter)
    armed: bool = False

    # ── where it is ───────────────────────────────────────────────────────────────────────────

    def note(self, what: str, **more: Any) -> None:
        """A line of the trace; it is there even if this process is killed next."""
        row = {"what": what, "phase": self.at, "at": time.monotonic(), **more}
        with self.trace.open("a") as file:
            file.write(json.dumps(row) + "\n")

    def enter(self, phase: str) -> None:
        """Be in another phase from here on."""
        self.at = phase
        self.note("phase")
        if phase == self.phase and not self.armed:
            self.armed = True
            self._arm()

    # ── the fault ─────────────────────────────────────────────────────────────────────────────

    def _arm(self) -> None:
        kind = self.fault.get("kind")
        if kind == "call":
            assert self.call is not None
            method, path, after = self.call
            number = self.admin(
                "fail",
                method=method,
                path=path,
                do=self.fault["do"],
                times=self.fault["times"],
                after=after,
            )
            self.note("armed", number=number)
            self._forgive_later(number)
        elif kind == "ssh":
            self._reach(self.fault["do"])
            self.note("struck")
            self._open_later()
        elif kind == "dashboard":
            for machine in self._machines():
                self.admin("dashboard", machine=machine["id"], what=self.fault["do"])
            self.note("struck")

    def _forgive_later(self, number: int) -> None:
        def forgive() -> None:
            while not self.admin("hits", number=number):
                time.sleep(0.05)
            self.note("struck")
            time.sleep(self.fault["lasts"])
            self.admin("forget", number=number)

        if self.fault.get("lasts") is not None:
            threading.Thread(target=forgive, daemon=True).start()

    def _open_later(self) -> None:
        def mend() -> None:
            time.sleep(self.fault["lasts"])
            self._reach("open")

        # No daemon: a command that gives up sooner than the door opens must not leave it shut.
        threading.Thread(target=mend).start()

    def _reach(self, how: str) -> None:
        for machine in self._machines():
            self.admin("reach", machine=machine["id"], how=how)

    def _machines(self) -> list[dict[str, Any]]:
        import re

        rows = self.admin("machines")
        return [m for m in rows if m["gone"] is None and re.fullmatch(self.machine, m["name"])]

    def strike(self, when: str) -> None:
        """End this process, or interrupt it, if it was to happen now."""
        if self.fault["when"] != when:
            return
        self.note("struck")
        if self.fault["kind"] == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        os.killpg(os.getpgrp(), signal.SIGINT)  # as a terminal does it: its children hear it, too
        time.sleep(1)  # it arrives in here

    def admin(self, verb: str, **arguments: Any) -> Any:
        """The cloud's back door."""
        port, key = self.door
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        try:
            body = json.dumps({"key": key, "verb": verb, **arguments})
            connection.request("POST", "/admin", body, {"Content-Type": "application/json"})
            said = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        return said["given"]

    # ── what passes ───────────────────────────────────────────────────────────────────────────

    def here(self, name: str, matches: bool, spared: int = 0) -> bool:
        """Whether this client's own fault (a signal) waits at what passes now; counts it."""
        if self.fault.get("kind") not in {"kill", "interrupt"} or self.at != self.phase:
            return False
        if not matches:
            return False
        self.seen[name] += 1
        return self.seen[name] == spared + 1


def install(told: dict[str, Any]) -> None:
    """Put them into this process. told: the fields of `Hooks`."""
    import re

    from jarvislabs.transport import Transport

    told = {**told, "trace": Path(told["trace"])}
    hooks = Hooks(**told)
    if hooks.careless:
        careless.become(hooks.careless)

    request = Transport.request

    def watched(self: Any, method: str, path: str, **rest: Any) -> Any:
        hooks.note("call", method=method, path=path)
        fits = False
        if hooks.call is not None:
            wanted, pattern, _ = hooks.call
            fits = method == wanted and re.search(pattern, path) is not None
        strikes = hooks.here("call", fits, hooks.call[2] if hooks.call else 0)
        if strikes:
            hooks.strike("before")
        try:
            return request(self, method, path, **rest)
        finally:
            if strikes:
                hooks.strike("after")

    Transport.request = watched  # type: ignore[method-assign]
    for name in STEPS:
        _watch_step(hooks, name)
    _watch_records(hooks)
    hooks.enter(hooks.began)


def _watch_step(hooks: Hooks, name: str) -> None:
    write: Callable[..., Any] = getattr(Jobs, name)

    def watched(self: Jobs, job_id: int, *rest: Any, **more: Any) -> Any:
        strikes = hooks.here(name, hooks.step == name)
        hooks.note("step", name=name)
        if strikes:
            hooks.strike("before")
        done = write(self, job_id, *rest, **more)
        if strikes:
            hooks.strike("after")
        if name in AFTER_STEP:
            hooks.enter(f"{self.job(job_id).kind} {AFTER_STEP[name]}")
        return done

    setattr(Jobs, name, watched)


def _watch_records(hooks: Hooks) -> None:
    write = Records._write

    def watched(self: Records, box: Box) -> Box:
        stages = "+".join(sorted({note.stage.value for note in box.jobs.values()}))
        name = f"record {box.held}{'' if box.machine else ', no id'}: {stages}"
        hooks.note("step", name=name)
        strikes = hooks.here(name, hooks.step == name)
        if strikes:
            hooks.strike("before")
        done = write(self, box)
        if strikes:
            hooks.strike("after")
        return done

    Records._write = watched  # type: ignore[method-assign]
