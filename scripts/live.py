"""The whole job at a real provider, small and capped: what `make live-BACKEND` runs.

    python scripts/live.py jarvis

Trains a tiny recipe on the cheapest hardware there is right now, checks what was pulled, sees that
nothing was left behind, and says what it cost. It spends real money: LIVE_MAX_COST at most, beside
what a machine takes to start. Whatever goes wrong, it ends what it started, and says what may
still bill.

    LIVE_MAX_COST      dollars (1)
    LIVE_MAX_DURATION  of the training and what follows it (20m)
    LIVE_RECIPE        any recipe (tiny)
    LIVE_GPU           as for `ftlaunch train -g`; cpu for none (the cheapest there is)
    LIVE_INFRA         behind SkyPilot, as in `skypilot:aws` (wherever it is cheapest)
    LIVE_NODES         machines that train together, where a backend has several (1)
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import FrameType
from typing import Any

from backends import registry
from backends.errors import FtlaunchError, Lost, NoCapacity
from backends.lease import Keep, Lease, Phase
from backends.offer import Need, Offer
from backends.protocol import Backend
from launcher.run.inventory import Entry, inventory_here, selected
from launcher.run.pull import is_same
from launcher.run.spec import job_from_json
from launcher.store import open_store

KEYS = {"jarvis": "JL_API_KEY", "modal": "MODAL_TOKEN_SECRET", "skypilot": None}
"""The backends that can be tried so, and the variable that holds the account's key: SkyPilot's
server keeps those of its clouds."""

FTLAUNCH = str(Path(sys.executable).with_name("ftlaunch"))
_USAGE, _CREDENTIALS, _MAY_BILL, _INTERRUPTED = 2, 4, 8, 130


@dataclass(frozen=True)
class Wish:
    """What the caller's variables ask for."""

    max_cost: str
    max_duration: str
    recipe: str
    gpu: str
    infra: str
    nodes: str

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Wish:
        """Read them."""
        return cls(
            max_cost=environ.get("LIVE_MAX_COST") or "1",
            max_duration=environ.get("LIVE_MAX_DURATION") or "20m",
            recipe=environ.get("LIVE_RECIPE") or "tiny",
            gpu=environ.get("LIVE_GPU") or "",
            infra=environ.get("LIVE_INFRA") or "",
            nodes=environ.get("LIVE_NODES") or "1",
        )


class Trial:
    """One run at a provider, in a folder of its own; what it started is what its store knows."""

    def __init__(self, backend: str, folder: Path, wish: Wish) -> None:
        # SkyPilot alone is told where.
        self._name = f"{backend}:{wish.infra}" if wish.infra and KEYS[backend] is None else backend
        self._wish = wish
        self._folder = folder
        self._state = folder / "state"
        self._out = folder / "results"
        self._run = f"live-{time.strftime('%m%d-%H%M%S')}"

    def go(self) -> None:
        """Train, and look at what came home. Raises FtlaunchError, Failed."""
        gpu = self._wish.gpu or self._cheapest()
        words = ["train", self._recipe(), "-b", self._name, "-y", "-g", gpu, "-n", self._run]
        words += ["--max-cost", self._wish.max_cost, "--max-duration", self._wish.max_duration]
        words += ["--on-finish", "destroy", "-o", str(self._out)]
        if code := self._ftlaunch(*words):
            raise Failed(f"ftlaunch train ended with {code}", code)
        self._require_whole()

    def _recipe(self) -> str:
        """The recipe, or a launch recipe around it where it is to run on several nodes."""
        asked = self._wish.recipe
        if self._wish.nodes == "1":
            return asked
        config = str(Path(asked).absolute()) if Path(asked).exists() else asked
        several = self._folder / "several.yml"
        several.write_text(
            f"config: {json.dumps(config)}\nhardware: {{nodes: {self._wish.nodes}}}\n"
        )
        return str(several)

    def _cheapest(self) -> str:
        offers = self._backend().offers(Need(), live=True)
        if not offers:
            raise NoCapacity(f"{self._name} has no GPU free", hint="try again later")
        found: Offer = offers[0]
        where = f" in {found.region}" if found.region else ""
        print(f"cheapest now: {found.gpu}{where}, {found.price} an hour", flush=True)
        return str(found.gpu)

    def _require_whole(self) -> None:
        """Every job has succeeded, is pulled and let go of; what was pulled is what was made."""
        store = open_store(self._state)
        run = store.run(self._run)
        wanted: dict[PurePosixPath, Entry] = {}
        for job in store.jobs(run.id):
            if job.phase is not Phase.SUCCEEDED or job.pulled_at is None or job.closed_at is None:
                raise Failed(f"{job.kind} is not whole: {job.phase} {job.reason}")
            pulled = job_from_json(job.spec).pull
            entries = inventory_here(run, job) or []
            # A later job may have written over what an earlier one made.
            wanted |= {entry.path: entry for entry in entries if selected(entry.path, pulled)}
        wrong = [
            str(path) for path, entry in wanted.items() if not is_same(self._out / path, entry)
        ]
        weights = [str(path) for path in wanted if path.suffix == ".safetensors"]
        if wrong or not weights:
            raise Lost(f"what was pulled is not what was made: {wrong or 'there are no weights'}")
        print(f"verified: {len(wanted)} files, among them {', '.join(weights)}", flush=True)

    # ── the end ───────────────────────────────────────────────────────────────────────────────

    def end(self) -> None:
        """End whatever was started and still goes on."""
        if not (self._state / "ftlaunch.db").exists():
            return
        store = open_store(self._state)
        for run in store.runs(alive=True):
            self._ftlaunch("stop", "--now", run.name)
        backend = self._backend()
        for lease in self._ours(backend):
            try:
                backend.release(lease, keep=Keep.NOTHING)
            except FtlaunchError as error:
                print(f"live: {error.message}\n  {error.hint}", file=sys.stderr, flush=True)

    def left(self) -> list[str]:
        """What of it may still bill, in sentences; empty when the provider has nothing of it."""
        try:
            backend = self._backend()
            ours = [lease.job for lease in self._ours(backend)]
            others = [lease.job for lease in backend.leases() if lease.job not in ours]
        except FtlaunchError as error:
            return [f"{self._name} does not say what there is: {error.message}"]
        return [f"the machine of {job}" for job in ours] + self._not_cleaned(others)

    def _not_cleaned(self, others: Sequence[str]) -> list[str]:
        """What `check --clean` could not remove, but for what other computers run."""
        done = subprocess.run(
            [FTLAUNCH, "check", "--clean", "--json", "-b", self._name],
            env=self._environ(),
            check=False,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            rows: list[dict[str, Any]] = json.loads(done.stdout)["clean"][self._name]
        except (ValueError, KeyError):
            return [f"ftlaunch check --clean ended with {done.returncode}"]
        for row in rows:
            print(f"  {'ok' if row['ok'] else 'NO'}  {row['subject']}: {row['detail']}", flush=True)
        bad = [row["detail"] for row in rows if not row["ok"]]
        return [text for text in bad if not any(job in text for job in others)]

    def cost(self) -> str:
        """By price and clock, as far as it is known."""
        if not (self._state / "ftlaunch.db").exists():
            return "nothing"
        store = open_store(self._state)
        jobs = [job for run in store.runs() for job in store.jobs(run.id)]
        if not any(job.intent_at for job in jobs):
            return "nothing"
        if not any(job.launched_at for job in jobs):
            return "only what it took to find out that it does not start"
        known = [job.cost for job in jobs if job.cost is not None]
        if not known:
            return "an amount that is not known here"
        total = sum((money.amount for money in known), start=known[0].amount * 0)
        return f"about {total:.4f} {known[0].currency}"

    # ── the parts ─────────────────────────────────────────────────────────────────────────────

    def _backend(self) -> Backend:
        return registry.load(self._name, state_dir=self._state / "backends")

    def _ours(self, backend: Backend) -> list[Lease]:
        names = open_store(self._state).job_names()
        return [lease for lease in backend.leases() if lease.job in names]

    def _environ(self) -> dict[str, str]:
        return {**os.environ, "FTLAUNCH_STATE_DIR": str(self._state)}

    def _ftlaunch(self, *words: str) -> int:
        print(f"$ ftlaunch {' '.join(words)}", flush=True)
        process = subprocess.Popen([FTLAUNCH, *words], env=self._environ())
        try:
            return process.wait()
        except KeyboardInterrupt:
            process.wait(30)  # it was interrupted as well
            raise


class Failed(Exception):
    """What was tried did not do what it should."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


def main(argv: Sequence[str]) -> int:
    """Try one backend; returns the exit code."""
    if len(argv) != 1 or argv[0] not in KEYS:
        print(f"live: name one of: {', '.join(KEYS)}", file=sys.stderr)
        return _USAGE
    (backend,) = argv
    if lacking := _lacking(backend):
        print(f"live: {lacking}", file=sys.stderr)
        return _CREDENTIALS
    signal.signal(signal.SIGTERM, _interrupt)
    folder = Path(tempfile.mkdtemp(prefix=f"ftlaunch-live-{backend}-"))
    trial = Trial(backend, folder, Wish.of(os.environ))
    code = _tried(trial)
    try:
        if code:
            trial.end()
        left = trial.left()
    except KeyboardInterrupt:
        left = ["whatever was not ended when you interrupted the end"]
    print(f"it cost {trial.cost()}; its records and results are in {folder}", flush=True)
    for text in left:
        print(f"live: this may still bill: {text}", file=sys.stderr)
    if left:
        state = f"FTLAUNCH_STATE_DIR={folder / 'state'}"
        print(f"  end it with: {state} ftlaunch stop --now", file=sys.stderr)
        return _MAY_BILL
    print("nothing of it is left at the provider", flush=True)
    return code


def _lacking(backend: str) -> str:
    """What the user has to do before anything can be tried, in a sentence; empty when nothing."""
    if (key := KEYS[backend]) is not None:
        return "" if os.environ.get(key) else f"put the account's key into {key} first"
    with tempfile.TemporaryDirectory() as folder:
        found = registry.load(backend, state_dir=Path(folder)).check()
    return next((f"{one.detail}; {one.hint}" for one in found if not one.ok), "")


def _tried(trial: Trial) -> int:
    """How it went; whatever went wrong is said, and becomes an exit code."""
    try:
        trial.go()
    except KeyboardInterrupt:
        print("live: interrupted; what was started is ended", file=sys.stderr)
        return _INTERRUPTED
    except FtlaunchError as error:
        print(f"live: {error.message}\n  {error.hint}", file=sys.stderr)
        return error.exit_code
    except Failed as error:
        print(f"live: {error}", file=sys.stderr)
        return error.code
    except Exception as error:  # noqa: BLE001 - what was started is ended whatever happens
        print(f"live: {error!r}", file=sys.stderr)
        return 1
    return 0


def _interrupt(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
