"""A run of two jobs through one case, and what is left of it at the end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from clouds.modal.cloud import Cloud
from desks import FTLAUNCH
from toy_run import Toy, toy, whole

from backends.lease import Phase
from backends.modal.account import PREFIX
from backends.offer import Money, Offer
from modal_faults.cases import Case
from modal_faults.client import VARIABLE, Told

OFFER = Offer("modal", None, 0, Money(Decimal(1)), cpus=1, memory_gib=1.0, data={"gpus": ""})
PATIENCE_S = 150.0


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

    def __init__(self, cloud: Cloud, folder: Path, case: Case | None) -> None:
        self.cloud = cloud
        self.case = case
        self.trace = folder / "trace"
        self.log = folder / "clients.log"
        self.codes: list[int] = []
        self._folder = folder

    def rows(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.trace.read_text().splitlines()]

    def go(self) -> Outcome:
        """The run, with its fault, and then as its user would mend it."""
        self._folder.mkdir()
        began = len(self.cloud.state["spans"])
        with toy(self._folder, seconds=0.5, backend="modal", offer=OFFER) as made:
            self._conduct(made)
            for _ in range(3):
                if all(job.closed_at for job in made.store.jobs(made.run.id)):
                    break
                self._ask(made, "wait", "toy")
            if not all(job.closed_at for job in made.store.jobs(made.run.id)):
                self._ask(made, "stop", "--now", "toy")
            outcome = self._outcome(made)
        spans = self.cloud.state["spans"][began:]
        now = time.monotonic()
        outcome.billed_s = sum((span["end"] or now) - span["start"] for span in spans)
        if outcome.after_s is not None:
            last = max(span["end"] or now for span in spans)
            outcome.after_s = max(0.0, last - outcome.after_s)
        return outcome

    def _environ(self, made: Toy) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("FTLAUNCH_STATE")}
        home = self._folder / "home"
        home.mkdir(exist_ok=True)
        return {**kept, **self.cloud.environ, "HOME": str(home),
                "FTLAUNCH_STATE_DIR": str(made.state)}  # fmt: skip

    def _conduct(self, made: Toy) -> None:
        told = Told(str(self.trace), self.cloud.door)
        if self.case is not None:
            told.phase, told.call = self.case.phase.at, self.case.call
            told.fault = dict(self.case.how)
        tests = Path(__file__).resolve().parents[2]
        path = os.pathsep.join([str(tests / "support"), str(tests), str(tests.parent)])
        environ = {**self._environ(made), "PYTHONPATH": path, VARIABLE: json.dumps(asdict(told))}
        argv = [sys.executable, "-m", "modal_faults.client", made.run.id]
        self.codes.append(self._run(argv, environ))

    def _ask(self, made: Toy, *words: str) -> None:
        self.codes.append(self._run([FTLAUNCH, *words], self._environ(made)))

    def _run(self, argv: Sequence[str], environ: dict[str, str]) -> int:
        with self.log.open("ab") as log:
            return subprocess.run(
                argv, env=environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                timeout=PATIENCE_S, cwd="/", check=False,
            ).returncode  # fmt: skip

    def _outcome(self, made: Toy) -> Outcome:
        found = Outcome()
        jobs = made.store.jobs(made.run.id)
        names = {PREFIX + job.name for job in jobs}
        state = self.cloud.state
        for app in state["apps"]:
            if app["description"] in names and not app["over"]:
                found.leaked.append(f"app {app['description']} is not over")
        for job in jobs:
            if job.phase is Phase.SUCCEEDED and not whole(made, job.kind):
                found.lost.append(f"what {job.kind} made is not here")
            if not job.closed_at:
                found.undone.append(f"{job.kind} is still open: {job.phase} {job.reason}")
        if self.case is not None and self.case.harmless:
            bad = [job for job in jobs if job.phase is not Phase.SUCCEEDED]
            found.undone += [f"{job.kind} {job.phase}: {job.reason}" for job in bad]
        if self.case is not None and not self._struck():
            found.undone.append("the fault met nothing")
        found.ended = "+".join(job.phase.value for job in jobs)
        pulled = [row["at"] for row in self.rows() if row.get("name") == "mark_pulled"]
        found.after_s = pulled[-1] if len(pulled) > 1 else None
        return found

    def _struck(self) -> bool:
        rows = self.rows()
        if any(row["what"] == "struck" for row in rows):
            return True
        armed = [row["number"] for row in rows if row["what"] == "armed"]
        return any(self.cloud.hits(number) for number in armed)
