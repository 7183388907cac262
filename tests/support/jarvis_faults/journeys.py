"""A run's way through one case: what the user does, before the fault, in it and after it.

The user is a plain one: types the command, waits, and when something is still open afterwards says
`ftlaunch wait` again, with the fault over by then. More is not needed, or it is a failure.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import toy_run
from clouds.jarvis.cloud import Cloud

from backends.jarvis import offers
from backends.jarvis.pace import VARIABLE
from backends.offer import Need, Offer
from jarvis_faults.cases import CALLS, Case
from jarvis_faults.client import Clients
from launcher.on_finish import OnFinish
from launcher.run import spec
from launcher.run.adding import add_job
from launcher.run.spec import AttachJob
from launcher.store import RunRecord, Store, open_store

PACE = 60.0
"""The client's patience is the real one through this; what it cannot hurry has a floor of its own
(`backends.jarvis.pace`)."""
QUICK_S = 0.2
LONG_S = 30.0
CLIENT_S = 60.0
AGAIN = 3
"""How often the user says `ftlaunch wait`, at most."""


@dataclass
class World:
    """A provider, and what makes the user's processes."""

    cloud: Cloud
    clients: Clients
    key: Path
    """A folder with an SSH key that the account knows."""


@dataclass
class Journey:
    """One run, from its first command to the last."""

    world: World
    folder: Path
    case: Case | None
    careless: str | None = None
    secrets_seen: set[str] = field(default_factory=set)
    codes: list[int | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)
        self.first_id = max((m.id for m in self.world.cloud.machines), default=0)
        self.state = self.folder / "state"
        self.out = self.folder / "out"
        self.log = self.folder / "clients.log"
        self.trace = self.folder / "trace"
        self.trace.touch()
        self.wishes = OnFinish.DESTROY
        (self.folder / "home").mkdir()
        self.store: Store = open_store(self.state)
        self.run: RunRecord

    # ── the ways ──────────────────────────────────────────────────────────────────────────────

    def go(self, way: str) -> None:
        """Take one of the ways below."""
        if way != "first key":
            shutil.copytree(self.world.key, self.state / "backends" / "jarvis" / "key")
        ways = {
            "train": self._train,
            "first key": self._train,
            "pause": self._pause,
            "beside": self._beside,
            "pull": self._pull,
            "taken": self._taken,
            "found": self._found,
            "ending": self._ending,
            "stop": self._stop,
            "rm": self._rm,
        }
        ways[way]()

    def _train(self) -> None:
        self._begin(OnFinish.DESTROY)
        self._fate()
        self._conduct(self._hooks())

    def _pause(self) -> None:
        self._begin(OnFinish.PAUSE)
        self._conduct(self._hooks())

    def _beside(self) -> None:
        """A later job on the machine that sleeps with what it builds on."""
        self._begin(OnFinish.PAUSE)
        self._conduct(self._watching())
        first = self.store.jobs(self.run.id)[0]
        assert first.closed_at is not None
        attach = (AttachJob(first.id, PurePosixPath("inputs/train")),)
        merge = dataclasses.replace(toy_run.job("merge", seconds=QUICK_S, attach=attach),
                                    on_finish=OnFinish.PAUSE)  # fmt: skip
        add_job(self.store, self.run, merge, _offer())
        self._fate()
        self._conduct(self._hooks())

    def _pull(self) -> None:
        """The results are wanted once more, from a machine that sleeps."""
        self._begin(OnFinish.PAUSE)
        self._conduct(self._watching())
        shutil.rmtree(self.out)
        self._until_done(["ftlaunch", "pull", self.run.name], self._hooks())

    def _taken(self) -> None:
        """Somebody pauses the machine under a running job."""
        self._begin(OnFinish.DESTROY, seconds=LONG_S)
        self._conduct(self._hooks(), on=("train observe", self._click_pause))

    def _found(self) -> None:
        """The user's machine dies right after the provider was asked for one."""
        self._begin(OnFinish.DESTROY)
        self._crash("train launch", "create")
        self._conduct(self._hooks())

    def _ending(self) -> None:
        """The same right after the provider was asked for the end of one."""
        self._begin(OnFinish.DESTROY)
        self._crash("train release", "destroy")
        self._conduct(self._hooks())

    def _stop(self) -> None:
        self._begin(OnFinish.DESTROY, seconds=LONG_S)
        at_stop = self.case is not None and self.case.phase.at == "start"
        words = ["ftlaunch", "stop", "--grace", "20s", self.run.name]

        def stop() -> None:
            self._start(words, self._hooks() if at_stop or self.case is None else None)

        self._conduct(None if at_stop else self._hooks(), on=("train observe", stop))
        if any(job.open for job in self.store.jobs(self.run.id)):
            self._until_done(words, self._watching())

    def _rm(self) -> None:
        self._begin(OnFinish.PAUSE)
        self._conduct(self._watching())
        self._until_done(["ftlaunch", "rm", "--yes", self.run.name], self._hooks())

    # ── what they consist of ──────────────────────────────────────────────────────────────────

    def _begin(self, wish: OnFinish, *, seconds: float = QUICK_S) -> None:
        self.wishes = wish
        self.run = self.store.add_run(
            run_id="toy1",
            name="toy",
            recipe="toy",
            backend="jarvis",
            output_dir=self.out,
            spec=spec.run_to_json(toy_run.run_spec()),
        )
        job = dataclasses.replace(toy_run.job("train", seconds=seconds), on_finish=wish)
        add_job(self.store, self.run, job, _offer())

    def _fate(self) -> None:
        if self.case is not None and self.case.how["kind"] == "fate":
            self.world.cloud.fate(**self.case.how["fate"])

    def _hooks(self) -> dict[str, Any]:
        told: dict[str, Any] = {
            "trace": str(self.trace),
            "door": self.world.cloud.door,
            "machine": "ftl-toy-.*",
            "careless": self.careless,
        }
        if self.case is None or self.case.how["kind"] == "fate":
            return told
        told |= {"phase": self.case.phase.at, "fault": self.case.how}
        if self.case.call in CALLS:
            return told | {"call": CALLS[self.case.call]}
        return told | {"step": self.case.call}

    def _crash(self, phase: str, call: str) -> None:
        hooks = self._hooks() | {
            "phase": phase,
            "call": CALLS[call],
            "fault": {"kind": "kill", "when": "after"},
            "careless": None,
        }
        assert self._did(["conduct", self.run.id], hooks) == -9

    def _click_pause(self) -> None:
        (machine,) = [m for m in self._machines() if m["gone"] is None]
        self.world.cloud.dashboard_pause(machine["id"])

    def _conduct(self, hooks: Any, *, on: Any = None) -> None:
        """Until nothing is open; after the first time without the fault."""
        words = ["conduct", self.run.id]
        self.codes.append(self._did(words, hooks, on=on))
        for _ in range(AGAIN):
            if not any(job.open for job in self.store.jobs(self.run.id)):
                return
            self.world.cloud.forgive()
            self.codes.append(self._did(words, self._watching()))

    def _watching(self) -> dict[str, Any]:
        """Without the fault: only what passes is written down."""
        kept = {"trace", "door", "machine", "careless"}
        told = {key: value for key, value in self._hooks().items() if key in kept}
        return told | {"began": "without"}

    def _until_done(self, words: list[str], hooks: Any) -> None:
        """A command of the user's, and again if it failed."""
        for _ in range(1 + AGAIN):
            code = self._did(words, hooks)
            self.codes.append(code)
            if code == 0 or (code in {1, 2, 130} and words[1] in {"stop", "rm"} and self._over()):
                return
            self.world.cloud.forgive()
            hooks = self._watching()

    def _over(self) -> bool:
        return not any(job.open for job in self.store.jobs(self.run.id))

    def _did(self, words: list[str], hooks: Any, *, on: Any = None) -> int | None:
        pid = self._start(words, hooks or (self._watching() if on else None))
        end = time.monotonic() + CLIENT_S
        code = None
        while code is None and time.monotonic() < end:
            code = self.world.clients.wait(pid, 0.1)
            if on is not None and self._is_at(on[0]):
                on, do = None, on[1]
                do()
            self._look_for_secrets()
        if code is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
            self.world.clients.wait(pid, 5)
        self._strikes()
        return code

    def _start(self, words: list[str], hooks: Any) -> int:
        environ = {
            **self.world.cloud.environ,
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder / "home"),
            "FTLAUNCH_STATE_DIR": str(self.state),
            VARIABLE: str(PACE),
        }
        return self.world.clients.start(words, environ=environ, log=self.log, hooks=hooks)

    # ── what was seen ─────────────────────────────────────────────────────────────────────────

    def rows(self) -> Iterator[dict[str, Any]]:
        """The trace of all its clients."""
        for line in self.trace.read_text().splitlines():
            yield json.loads(line)

    def _is_at(self, phase: str) -> bool:
        return any(row["phase"] == phase for row in self.rows())

    def _strikes(self) -> None:
        """Write down whether the fault has struck, while that can still be asked."""
        for row in list(self.rows()):
            if row["what"] == "armed" and self.world.cloud.admin("hits", number=row["number"]):
                with self.trace.open("a") as file:
                    file.write(json.dumps({"what": "struck", "phase": "", "at": 0.0}) + "\n")

    def struck(self) -> bool:
        """Whether the fault met anything."""
        if self.case is None or self.case.how["kind"] == "fate":
            return True
        return any(row["what"] == "struck" for row in self.rows())

    def _machines(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.world.cloud.admin("machines")
        return [row for row in rows if row["id"] > self.first_id]

    def _look_for_secrets(self) -> None:
        """The account's key in what any process was started with, here or on a machine."""
        key = self.world.cloud.key.encode()
        for folder in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if folder.name.isdigit() and key in (folder / "cmdline").read_bytes():
                    self.secrets_seen.add(f"the arguments of process {folder.name}")


def _offer() -> Offer:
    found = offers.offers(offers.dated(), Need(gpus=(("L4", 1),)), kind=offers.CONTAINER)
    return found[0]
