"""A backend by somebody who has read `backends.protocol` and knows nothing else of ftlaunch.

It rents out boxes: numbered folders, each with a job and a runner of its own.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path, PurePosixPath

from backends import (
    Address,
    Attached,
    Files,
    Finding,
    Job,
    Keep,
    Lease,
    LocalFile,
    Lost,
    MayStillBill,
    Money,
    Need,
    NotLaunched,
    Observation,
    Offer,
    Options,
    Phase,
    Progress,
    Refused,
    Signal,
    Unsupported,
    rundir,
    runner,
)
from backends.plan import document


def factory(options: Options) -> Stranger:
    """Named by the entry point in pyproject.toml."""
    return Stranger(options)


class Stranger:
    """Boxes `boxes/N/` with `note.json` (the job's name, when it came) and `run/`."""

    name = "stranger"

    def __init__(self, options: Options) -> None:
        self._options = options
        self._root = options.state_dir
        self._boxes = options.state_dir / "boxes"

    def check(self) -> Sequence[Finding]:
        """One finding: whether boxes can be put where they belong."""
        try:
            self._boxes.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            return [Finding("boxes", False, str(error), hint="free the folder's name")]
        return [Finding("boxes", True, str(self._boxes))]

    def offers(self, need: Need, *, live: bool) -> Sequence[Offer]:
        """A box on a CPU, for a cent an hour."""
        del live
        if need.gpus or need.nodes > 1:
            return []
        price = Money(Decimal("0.01"))
        return [Offer(self.name, None, 0, price, source="the sign", read_at=self._options.clock())]

    # ── leases ────────────────────────────────────────────────────────────────────────────────

    def launch(
        self, job: Job, offer: Offer, *, on_lease: Callable[[Lease], None], progress: Progress
    ) -> Lease:
        """Put the job in the next box, unless it is in one."""
        del offer
        if job.nodes > 1:
            raise Unsupported("a box has room for one node")
        if job.kept_secrets:
            raise Unsupported(f"boxes keep no secrets, {job.kept_secrets[0]!r} neither")
        if any(isinstance(i, Attached) and i.files.backend != self.name for i in job.inputs):
            raise Unsupported("only what is in a box can be attached to a box")
        try:
            with self._alone():
                return self._place(job, on_lease, progress)
        except OSError as error:
            raise NotLaunched(f"no box could be filled: {error}") from error

    def _place(self, job: Job, on_lease: Callable[[Lease], None], progress: Progress) -> Lease:
        for box in self._all():
            if _note(box)["job"] == job.name:
                if (box / "released").exists():
                    raise NotLaunched(f"box {box.name} still holds what {job.name} left")
                if (box / "run" / rundir.STATE).exists():
                    on_lease(_lease(box))
                    return _lease(box)
                shutil.rmtree(box)
        box = self._new_box(job)
        try:
            on_lease(_lease(box))
            self._fill(box / "run", job, progress)
            self._start(box / "run", job)
        except BaseException:
            _end(box / "run")
            shutil.rmtree(box)
            raise
        return _lease(box)

    def _new_box(self, job: Job) -> Path:
        self._boxes.mkdir(parents=True, exist_ok=True)
        number = max((int(box.name) for box in self._all()), default=0) + 1
        fresh = self._root / f"fresh-{number}"
        shutil.rmtree(fresh, ignore_errors=True)
        (fresh / "run" / "output").mkdir(parents=True)
        note = {"job": job.name, "since": self._options.clock().isoformat()}
        (fresh / "note.json").write_text(json.dumps(note))
        return fresh.rename(self._boxes / str(number))

    def _fill(self, run: Path, job: Job, progress: Progress) -> None:
        for item in job.inputs:
            if isinstance(item, Attached):
                _link(run / item.at, self._run(item.files))
                continue
            for file in item.files:
                _copy(file, run / file.at)
                progress("filling the box", done=file.size_bytes, total=item.size_bytes)
        for cache in job.caches:
            shared = self._root / "caches" / cache.key
            if not shared.exists():
                fresh = shared.with_name(f"fresh-{cache.key}")
                shutil.rmtree(fresh, ignore_errors=True)
                for file in cache.tree.files:
                    _copy(file, fresh / file.at)
                fresh.rename(shared)
            _link(run / cache.at, shared)
        plan = document(job.plan, job=job.name, outputs=job.outputs, deadline=job.deadline)
        (run / rundir.PLAN).write_text(json.dumps(plan))
        shutil.copy(runner.__file__, run / rundir.RUNNER)

    def _start(self, run: Path, job: Job) -> None:
        variables = {"PATH": self._options.environ.get("PATH", os.defpath)}
        child = subprocess.Popen(
            [sys.executable, "-I", str(run / rundir.RUNNER), "run", str(run)],
            env={**variables, **job.env, **job.secrets},
            cwd=run,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        while not (run / rundir.STATE).exists():
            if child.poll() is not None:
                raise NotLaunched("the runner did not start")
            time.sleep(0.01)
        child.returncode = 0  # it is not ours to wait for: it outlives this process

    def leases(self) -> Sequence[Lease]:
        """The boxes that somebody works in."""
        return [_lease(box) for box in self._all() if not self._look(box).phase.ended]

    def observe(self, lease: Lease) -> Observation:
        """What the runner in the box says of itself."""
        if not self._root.is_dir():
            return Observation(Phase.UNKNOWN, reason="the boxes cannot be seen")
        box = self._boxes / lease.id
        return self._look(box) if box.exists() else Observation(Phase.LOST, reason="no such box")

    def _look(self, box: Path) -> Observation:
        state = runner.status(str(box / "run"))
        alive = state.pop("alive")
        if state["phase"] != "absent":
            return rundir.observation(state, alive=alive, cost=self._cost(box))
        if self._door_is_shut():
            return Observation(Phase.STARTING)
        return Observation(Phase.LOST, reason="nobody ever worked in this box")

    def _cost(self, box: Path) -> Money:
        held = self._options.clock() - datetime.fromisoformat(_note(box)["since"])
        return Money(Decimal("0.01")) * (Decimal(held.total_seconds()) / 3600)

    def signal(self, lease: Lease, what: Signal, *, grace: timedelta) -> None:
        """Ask the runner."""
        if self.observe(lease).phase.ended:
            return
        run = self._boxes / lease.id / "run"
        if what is Signal.STOP:
            runner.request_stop(str(run), grace.total_seconds())
        else:
            runner.request_checkpoint(str(run))

    @contextlib.contextmanager
    def tunnel(self, lease: Lease, port: int) -> Iterator[Address]:
        """A box has no walls."""
        if self.observe(lease).phase.ended:
            raise Lost("the box is quiet")
        yield Address("127.0.0.1", port)

    def release(self, lease: Lease, *, keep: Keep) -> Files | None:
        """End what runs in the box, and empty it if wished."""
        box = self._boxes / lease.id
        if not box.exists():
            return None
        _end(box / "run")
        (box / "released").touch()
        if keep is Keep.NOTHING:
            self.discard(lease.files)
            return None
        return lease.files

    # ── files ─────────────────────────────────────────────────────────────────────────────────

    def read(
        self, files: Files, path: PurePosixPath, *, offset: int, follow: bool
    ) -> Iterator[bytes]:
        """Straight from the box."""
        with self._inside(files, path).open("rb") as file:
            file.seek(offset)
            while True:
                chunk = file.read(1 << 16)
                if not chunk and not follow:
                    return
                yield chunk
                if not chunk:
                    time.sleep(0.2)

    def fetch(self, files: Files, paths: Sequence[PurePosixPath], into: Path) -> None:
        """Go on where an earlier copy stopped, then look at the whole."""
        for path in paths:
            source, target = self._inside(files, path), into / path
            if target.exists() and _digest(target) == _digest(source):
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            part = target.with_name(".begun")
            begun = part.stat().st_size if part.exists() else 0
            with source.open("rb") as there, part.open("ab") as here:
                there.seek(begun)
                shutil.copyfileobj(there, here)
            if _digest(part) != _digest(source):
                shutil.copyfile(source, part)
            part.replace(target)

    def listing(self, files: Files) -> Mapping[PurePosixPath, int]:
        """All that lies in the box itself."""
        run = self._run(files)
        plain = (Path(at) / name for at, _, names in os.walk(run) for name in names)
        return {
            PurePosixPath(path.relative_to(run)): path.stat().st_size
            for path in plain
            if path.is_file() and not path.is_symlink()
        }

    def discard(self, files: Files) -> None:
        """Throw the box away, with nobody in it."""
        if runner.status(str(self._boxes / files.id / "run"))["alive"]:
            raise Refused(f"somebody works in box {files.id}", hint="release it first")
        with self._alone():
            shutil.rmtree(self._boxes / files.id, ignore_errors=True)

    def billed(self, lease: Lease) -> Money | None:
        """Boxes are for nothing."""
        return None

    def clean(self) -> Sequence[Finding]:
        """Boxes are all there is, and each belongs to a job."""
        return []

    # ── boxes ─────────────────────────────────────────────────────────────────────────────────

    def _all(self) -> list[Path]:
        return sorted(self._boxes.iterdir()) if self._boxes.is_dir() else []

    def _run(self, files: Files) -> Path:
        run = self._boxes / files.id / "run"
        if not run.is_dir():
            raise Lost(f"box {files.id} is gone")
        return run

    def _inside(self, files: Files, path: PurePosixPath) -> Path:
        found = self._run(files) / path
        if ".." in path.parts or path.is_absolute() or not found.is_file():
            raise Lost(f"there is no {str(path)!r} in box {files.id}")
        return found

    def _door_is_shut(self) -> bool:
        with (self._root / "door").open("w") as door:
            try:
                fcntl.flock(door, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        self._root.mkdir(parents=True, exist_ok=True)
        with (self._root / "door").open("w") as door:
            fcntl.flock(door, fcntl.LOCK_EX)
            yield


def _note(box: Path) -> dict[str, str]:
    found: dict[str, str] = json.loads((box / "note.json").read_text())
    return found


def _lease(box: Path) -> Lease:
    note = _note(box)
    files = Files("stranger", box.name)
    since = datetime.fromisoformat(note["since"])
    return Lease("stranger", box.name, note["job"], files, since)


def _copy(file: LocalFile, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(file.here, target)
    if _digest(target) != file.sha256:
        raise NotLaunched(f"{file.here} is not what it was")


def _link(at: Path, to: Path) -> None:
    at.parent.mkdir(parents=True, exist_ok=True)
    at.symlink_to(to)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _end(run: Path) -> None:
    """Stop now; an answer that the runner is gone is the confirmation."""
    for _ in range(1000):
        if runner.status(str(run))["phase"] == "absent":
            return
        runner.request_stop(str(run), 0.0)
        state = runner.status(str(run))
        if not state["alive"] and runner.leftover_group(state) is None:
            return
        time.sleep(0.03)
    raise MayStillBill(f"somebody stays in {run.parent}", hint="look into the box")
