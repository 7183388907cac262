"""Takes a run from job to job: launch, watch, pull, verify, release, next.

One process per run does this at a time (a lock says so); it is started in the background with the
run and outlives the terminal. Everything it knows is in the store, so that when it dies any later
command starts another one, which goes on from there. What it has to say becomes events.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from filelock import FileLock, Timeout

from backends.errors import FtlaunchError, MayStillBill, NoCapacity, Unsure
from backends.lease import Phase
from launcher import places
from launcher.run import closing, given, marks, measuring, spec
from launcher.run.desk import Desk
from launcher.run.launching import Told, launched
from launcher.run.loaded import Backends
from launcher.run.moving import go_on_leaving, move
from launcher.run.watching import watch
from launcher.store import JobRecord, open_store


def start(run_id: str) -> None:
    """Make sure that somebody conducts the run: in the background, away from this terminal."""
    folder = places.run_dir(run_id)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if _conducted(folder):
        return
    with (folder / "conductor.log").open("ab") as log:
        subprocess.Popen(
            [sys.executable, "-m", "launcher.run.conductor", run_id],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            # What was relative to this terminal's folder is not, in the conductor's.
            env={**os.environ, "FTLAUNCH_STATE_DIR": str(places.state_dir())},
            start_new_session=True,
        )


def _lock(folder: Path) -> FileLock:
    return FileLock(folder / "conductor.lock", mode=0o600)


def _conducted(folder: Path) -> bool:
    lock = _lock(folder)
    try:
        with lock.acquire(timeout=0):
            return False
    except Timeout:
        return True


def conduct(run_id: str) -> None:
    """Do whatever the run still needs, to the end. Returns at once if another does it."""
    lock = _lock(places.run_dir(run_id))
    try:
        lock.acquire(timeout=2)
    except Timeout:
        return
    with contextlib.closing(open_store(places.state_dir())) as store, lock:
        run = store.run(run_id)
        try:
            settled = spec.run_from_json(store.run_spec(run.id))
            desk = Desk(store, run, Backends(places.backends_dir()), settled)
            desk.backends.named(run.backend)
        except Exception as error:
            code = error.exit_code if isinstance(error, FtlaunchError) else FtlaunchError.exit_code
            data = {"fatal": True, "exit_code": code, "hint": getattr(error, "hint", "")}
            store.say(run_id, "error", f"the run cannot go on: {error}", data=data)
            raise
        Conductor(desk).finish()


class Conductor:
    """The work on one run. Each method may be repeated after a crash in the middle of it."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._store = desk.store
        self._home: set[int] = set()

    def finish(self) -> None:
        """Every open job to its end, in order; one that fails leaves out those that need it.

        Whatever ends this early, a machine that only waits for the next job is let go of.
        """
        try:
            self._finish()
        except BaseException:
            self._call_in()
            raise

    def _finish(self) -> None:
        while job := self._next():
            try:
                self._job(job)
            except FtlaunchError as error:
                self._failed(job, error)
            except Exception as error:
                # Our own mistake ends nobody's training: the job goes on, and is told about.
                text = f"ftlaunch itself failed: {error!r}"
                self._desk.say("error", text, job, exit_code=1, fatal=True)
                raise

    def _next(self) -> JobRecord | None:
        """The first job there is something to do for."""
        jobs = [job for job in self._store.jobs(self._desk.run.id) if job.open]
        return next((j for j in jobs if j.id not in self._home or not self._lends(j, jobs)), None)

    def _lends(self, job: JobRecord, jobs: Sequence[JobRecord]) -> bool:
        """Whether a planned job is to run on what this one ran on, which therefore is held on to.

        To let go of it would be to pay for another one, and for sending everything there again.
        """
        return closing.is_worth_holding(self._desk, job) and any(
            attach.job_id == job.id
            for later in jobs
            if later.ended_at is None and later.backend == job.backend
            if _costs_nothing(job)
            or all(name in os.environ for name in self._desk.wanted(later).secrets)
            for attach in self._desk.wanted(later).attach
        )

    def _call_in(self) -> None:
        """Let go of what was held for a job that has not been asked of the provider."""
        jobs = [job for job in self._store.jobs(self._desk.run.id) if job.open]
        used = {
            attach.job_id
            for later in jobs
            if later.intent_at is not None and later.ended_at is None
            for attach in self._desk.wanted(later).attach
        }
        waited_for = {
            attach.job_id
            for later in jobs
            if later.ended_at is None
            for attach in self._desk.wanted(later).attach
        }
        for job in jobs:
            if job.id in waited_for and _costs_nothing(job):
                continue  # the later job goes on from it, whenever that may be
            if job.id in self._home and job.id not in used:
                with contextlib.suppress(FtlaunchError):
                    closing.let_go(self._desk, job)

    def _job(self, job: JobRecord) -> None:
        if job.ended_at is None:
            # Once the provider was asked something may exist there: it is never just skipped.
            if job.intent_at is None and self._blocked(job):
                return
            try:
                go_on_leaving(self._desk, job)
                if (lease := launched(self._desk, job)) is not None:
                    watch(self._desk, self._store.job(job.id), lease)
            except NoCapacity as error:
                if not self._moved(self._store.job(job.id), error):
                    raise
                return
        job = self._store.job(job.id)
        if job.pulled_at is None:
            pull_s = closing.bring_home(self._desk, job)
            measuring.record(self._desk, self._store.job(job.id), pull_s=pull_s)
        self._home.add(job.id)
        if not self._lends(job, [j for j in self._store.jobs(self._desk.run.id) if j.open]):
            closing.let_go(self._desk, self._store.job(job.id))

    def _moved(self, job: JobRecord, error: NoCapacity) -> bool:
        """Whether the run goes to its next offer, now that this one has no capacity."""
        if not move(self._desk, job, error, Told(self._desk, job)):
            return False
        run = self._store.run(self._desk.run.id)
        settled = spec.run_from_json(self._store.run_spec(run.id))
        self._desk = replace(self._desk, run=run, settled=settled)
        return True

    def _blocked(self, job: JobRecord) -> bool:
        """A job that works on another's output is left out when there is none."""
        wanted = self._desk.wanted(job)
        for attach in wanted.attach:
            before = self._store.job(attach.job_id)
            needed = attach.job_id in spec.waits_for(wanted)
            if needed and before.phase is not Phase.SUCCEEDED:
                self._skip(job, f"{before.kind} {before.phase}")
                return True
            if not given.there(self._desk, job, attach):
                self._skip(job, f"{before.kind} left nothing to work on")
                return True
        return False

    def _skip(self, job: JobRecord, why: str) -> None:
        with self._store.together():
            self._store.mark_ended(job.id, Phase.STOPPED, exit_code=None, reason=why, cost=None)
            self._store.mark_closed(job.id, None)
        self._desk.say("skipped", f"{job.kind} is left out: {why}", job)

    def _failed(self, job: JobRecord, error: FtlaunchError) -> None:
        """The job cannot go on. What may bill stays open in the store; the rest is closed."""
        if isinstance(error, Unsure) and error.lease is not None:
            self._store.save_lease(job.id, error.lease)
        fatal = isinstance(error, MayStillBill)
        code = error.exit_code
        self._desk.say("error", error.message, job, hint=error.hint, exit_code=code, fatal=fatal)
        if fatal:
            self._store.set_phase(job.id, Phase.UNKNOWN, error.message)
            raise SystemExit(code)
        cost = marks.in_vain(self._desk).get(job.id)
        self._store.mark_ended(
            job.id, Phase.FAILED, exit_code=None, reason=error.message, cost=cost
        )
        try:
            closing.let_go(self._desk, self._store.job(job.id))
        except FtlaunchError as again:
            text = f"{job.kind} is not let go of: {again.message}"
            self._desk.say("error", text, job, hint=again.hint, exit_code=8, fatal=True)
            raise SystemExit(MayStillBill.exit_code) from again


def _costs_nothing(job: JobRecord) -> bool:
    """Whether waiting with a job that is over costs no more than its files' storage."""
    return spec.offer_from_json(job.offer).ends


def main() -> None:
    """`python -m launcher.run.conductor RUN_ID`."""
    conduct(sys.argv[1])


if __name__ == "__main__":
    main()
