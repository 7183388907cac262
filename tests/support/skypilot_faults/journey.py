"""A run through one case, and what is left of it at the end.

A guest's run is one job; where a cluster is made for it there is a second one, beside the first.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from clouds.skypilot.rig import Sky
from desks import FTLAUNCH
from toy_run import Toy, toy, whole

from backends.lease import Phase
from backends.offer import FREE, Money, Offer
from skypilot_faults.cases import Case
from skypilot_faults.client import VARIABLE, Told
from skypilot_faults.way import Way

GUEST = "mine"
"""A cluster of the user's own, on which most runs are guests."""
PATIENCE_S = 1500.0
SMALL = {"infra": "slurm/tiny", "cpus": "1+", "memory": "1+"}
WAYS = {
    "guest": (f"skypilot:cluster/{GUEST}", Offer("skypilot", None, 0, FREE)),
    "made": (
        "skypilot:slurm/tiny",
        Offer("skypilot", None, 0, Money(Decimal("0.05")),
              data={"resources": json.dumps([SMALL]), "cloud": "Slurm"}),
    ),
}  # fmt: skip


@dataclass
class World:
    """SkyPilot, and the way to it."""

    sky: Sky
    way: Way

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self.way.others |= {
            "the server restarts": self._restart,
            "no more ssh": self._drop,
            "the login node is silent": self._be_silent,
        }

    @property
    def environ(self) -> dict[str, str]:
        return {**self.sky.environ, "SKYPILOT_API_SERVER_ENDPOINT": self.way.url}

    def _restart(self) -> None:
        with self._lock:
            self.sky.end_server()
            self.sky.start_server()

    def _drop(self) -> None:
        with self._lock:
            self.way.cut_ssh()
            self.sky.restart_sshd()

    def _be_silent(self) -> None:
        with self._lock, self.sky.silent_sshd():
            time.sleep(5.0)

    def clear(self) -> None:
        """Take down what a failed case left, so that the next one does not suffer for it."""
        for name in self.sky.cluster_names():
            if name != GUEST:
                self.sky.down(name)

    def ours(self) -> list[str]:
        """The allocations that were made for runs."""
        return [name for name in self.sky.allocations() if name.startswith("ftlaunch-")]

    def at_rest(self) -> None:
        """Wait for the end of what was brought about."""
        with self._lock:
            assert self.sky.answers()


@dataclass
class Outcome:
    """What is left. `leaked` bills; `lost` was made, and is nowhere; `undone` had to succeed."""

    leaked: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    undone: list[str] = field(default_factory=list)
    after_s: float | None = None
    billed_s: float = 0.0
    ended: str = ""

    @property
    def problems(self) -> list[str]:
        return [*self.leaked, *self.lost, *self.undone]


class Journey:
    """One run. `codes` are those of our processes, in order."""

    def __init__(self, world: World, folder: Path, way: str, case: Case | None) -> None:
        self.world = world
        self.case = case
        self.trace = folder / "trace"
        self.log = folder / "clients.log"
        self.codes: list[int] = []
        self._folder = folder
        self._backend, self._offer = WAYS[way]
        self._beside = way == "made"
        self._seen: list[float] = []

    def rows(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.trace.read_text().splitlines()]

    def go(self) -> Outcome:
        """The run, with its fault, and then as its user would mend it."""
        with self.begun() as (made, conductor):
            self.codes.append(conductor.wait(PATIENCE_S))
            for _ in range(3):
                if all(job.closed_at for job in made.store.jobs(made.run.id)):
                    break
                self.ask(made, "wait", "toy")
            if not all(job.closed_at for job in made.store.jobs(made.run.id)):
                self.ask(made, "stop", "--now", "toy")
            return self.outcome(made)

    @contextlib.contextmanager
    def begun(self, **more: Any) -> Iterator[tuple[Toy, subprocess.Popen[bytes]]]:
        """The run and its conductor, which is told `more`, while Slurm is looked at."""
        self._folder.mkdir()
        told = Told(str(self.trace), self.world.way.url, **more)
        if self.case is not None:
            told.phase, told.call = self.case.phase.at, self.case.call
            told.fault = dict(self.case.how)
        tests = Path(__file__).resolve().parents[2]
        path = os.pathsep.join([str(tests / "support"), str(tests), str(tests.parent)])
        with (
            toy(
                self._folder,
                seconds=0.5,
                backend=self._backend,
                offer=self._offer,
                merge=self._beside,
            ) as made,
            self._metered(),
            self.log.open("ab") as log,
        ):
            environ = {
                **self._environ(made), "PYTHONPATH": path, VARIABLE: json.dumps(asdict(told))
            }  # fmt: skip
            argv = [sys.executable, "-m", "skypilot_faults.client", made.run.id]
            with subprocess.Popen(
                argv, env=environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/"
            ) as conductor:
                try:
                    yield made, conductor
                finally:
                    conductor.kill()

    @contextlib.contextmanager
    def _metered(self) -> Iterator[None]:
        """Look at Slurm five times a second: what of ours holds a node there."""
        done = threading.Event()

        def look() -> None:
            while not done.wait(0.2):
                if self.world.ours():
                    self._seen.append(time.monotonic())

        thread = threading.Thread(target=look)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _environ(self, made: Toy) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("FTLAUNCH_STATE")}
        return {**kept, **self.world.environ, "FTLAUNCH_STATE_DIR": str(made.state)}

    def ask(self, made: Toy, *words: str) -> None:
        """A command of the user's; its code is kept."""
        with self.log.open("ab") as log:
            done = subprocess.run(
                [FTLAUNCH, *words], env=self._environ(made), stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, timeout=PATIENCE_S, cwd="/", check=False,
            )  # fmt: skip
        self.codes.append(done.returncode)

    # ── what is left ──────────────────────────────────────────────────────────────────────────

    def outcome(self, made: Toy) -> Outcome:
        """Look at everything, once what was brought about is over."""
        self.world.at_rest()
        found = Outcome()
        jobs = made.store.jobs(made.run.id)
        found.leaked = [*self._left(), *self._running([job.name for job in jobs])]
        for job in jobs:
            if job.phase is Phase.SUCCEEDED and not whole(made, job.kind):
                found.lost.append(f"what {job.kind} made is not here")
            began = made.out / "output" / f"starts-{job.kind}"
            if began.is_file() and began.read_text() != "started\n":
                found.undone.append(f"{job.kind} began more than once")
            if not job.closed_at:
                found.undone.append(f"{job.kind} is still open: {job.phase} {job.reason}")
        if self.case is not None and self.case.harmless:
            bad = [job for job in jobs if job.phase is not Phase.SUCCEEDED]
            found.undone += [f"{job.kind} {job.phase}: {job.reason}" for job in bad]
        if self.case is not None and not self._struck():
            found.undone.append("the fault met nothing")
        found.undone += self._bad_words(made)
        found.ended = "+".join(job.phase.value for job in jobs)
        pulled = [row["at"] for row in self.rows() if row.get("name") == "mark_pulled"]
        if self._seen:
            found.billed_s = self._seen[-1] - self._seen[0]
            if pulled:
                found.after_s = max(0.0, self._seen[-1] - pulled[-1])
        return found

    def _left(self) -> Iterator[str]:
        """What holds a node, and what SkyPilot still lists."""
        yield from (f"the allocation {name}" for name in self.world.ours())
        clusters = self.world.sky.cluster_names()
        yield from (f"the cluster {name}" for name in clusters if name.startswith("ftlaunch-"))
        if GUEST not in clusters:
            yield f"the user's own cluster {GUEST} is gone"

    def _running(self, names: Sequence[str]) -> Iterator[str]:
        """Runners that go on."""
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                said = path.read_text("utf-8", "replace")
                if "runner.py" in said and any(f"/runs/{name}\0" in said for name in names):
                    yield f"process {path.parent.name}: {said!r}"

    def _bad_words(self, made: Toy) -> Iterator[str]:
        for path in (self.log, *made.state.glob("runs/*/conductor.log")):
            text = path.read_text("utf-8", "replace")
            if "Traceback" in text:
                yield f"{path.name}: {text[text.index('Traceback') :][-800:]}"

    def _struck(self) -> bool:
        rows = self.rows()
        if any(row["what"] == "struck" for row in rows):
            return True
        armed = [row["number"] for row in rows if row["what"] == "armed"]
        return any(self.world.way.hits(number) for number in armed)
