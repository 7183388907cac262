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
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from filelock import FileLock, Timeout

from backends.errors import (
    Capped,
    CredentialsMissing,
    FtlaunchError,
    Lost,
    MayStillBill,
    Unsure,
)
from backends.job import Attached, Files, Job, LocalTree, Secrets
from backends.lease import Keep, Lease, Observation, Phase
from backends.protocol import Backend
from backends.registry import load
from launcher import places
from launcher.run import pull, spec
from launcher.store import JobRecord, RunRecord, Store, open_store

_QUIET_ENDS = {Phase.SUCCEEDED, Phase.STOPPED}

POLL_S = 0.25
"""How often a living job is looked at when it is on this machine."""


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
            backend = load(run.backend, state_dir=places.backends_dir())
            work = Conductor(store, run, backend)
        except Exception as error:
            code = error.exit_code if isinstance(error, FtlaunchError) else FtlaunchError.exit_code
            data = {"fatal": True, "exit_code": code, "hint": getattr(error, "hint", "")}
            store.say(run_id, "error", f"the run cannot go on: {error}", data=data)
            raise
        work.finish()


class Conductor:
    """The work on one run. Each method may be repeated after a crash in the middle of it."""

    def __init__(self, store: Store, run: RunRecord, backend: Backend) -> None:
        self._store = store
        self._run = run
        self._backend = backend
        self._spec = spec.run_from_json(store.run_spec(run.id))

    def finish(self) -> None:
        """Every open job to its end, in order; one that fails leaves out those that need it."""
        while job := next((j for j in self._store.jobs(self._run.id) if not j.closed_at), None):
            try:
                self._job(job)
            except FtlaunchError as error:
                self._failed(job, error)
            except Exception as error:
                # Our own mistake ends nobody's training: the job goes on, and is told about.
                self._say(
                    "error", f"ftlaunch itself failed: {error!r}", job, exit_code=1, fatal=True
                )
                raise

    def _job(self, job: JobRecord) -> None:
        if self._blocked(job):
            return
        if job.ended_at is None and (lease := self._launched(job)) is not None:
            self._watch(job, lease)
        job = self._store.job(job.id)
        if job.pulled_at is None:
            self._pull(job)
        self._release(job)

    def _blocked(self, job: JobRecord) -> bool:
        """A job that works on another's output is left out when there is none."""
        wanted = spec.job_from_json(job.spec)
        for attach in wanted.attach:
            before = self._store.job(attach.job_id)
            if before.files is None:
                self._skip(job, f"{before.kind} left nothing to work on")
                return True
            if wanted.after_success and before.phase is not Phase.SUCCEEDED:
                self._skip(job, f"{before.kind} {before.phase}")
                return True
        return False

    def _skip(self, job: JobRecord, why: str) -> None:
        self._store.mark_ended(job.id, Phase.STOPPED, exit_code=None, reason=why, cost=None)
        self._store.mark_closed(job.id, None)
        self._say("skipped", f"{job.kind} is left out: {why}", job)

    # ── launch ────────────────────────────────────────────────────────────────────────────────

    def _launched(self, job: JobRecord) -> Lease | None:
        """The job's lease, launched now if need be; None when it was stopped before that."""
        if job.lease is not None and job.launched_at is not None:
            return job.lease
        if job.intent_at is not None:
            # A crash came between the intent and the lease: what was started is found by its tag.
            for lease in self._backend.leases():
                if lease.job == job.name:
                    self._store.save_lease(job.id, lease)
                    self._store.mark_launched(job.id)
                    return lease
        self._require_secrets(job)
        prepared = self._prepare(job)
        if not self._store.mark_intent(job.id):
            return None
        self._say("launching", f"{job.kind} goes to {self._backend.name}", job)
        lease = self._backend.launch(
            prepared,
            spec.offer_from_json(job.offer),
            on_lease=lambda found: self._store.save_lease(job.id, found),
            progress=self._progress(job),
        )
        self._store.save_lease(job.id, lease)
        self._store.mark_launched(job.id)
        self._store.set_run(self._run.id, Phase.RUNNING)
        self._say("launched", f"{job.kind} runs", job)
        return lease

    def _require_secrets(self, job: JobRecord) -> None:
        """A conductor of another terminal may lack a secret; the job waits for one that has it."""
        names = spec.job_from_json(job.spec).secrets
        missing = [name for name in names if name not in os.environ]
        if missing:
            text = f"{job.kind} needs the secret {missing[0]}, which is not set in this terminal"
            hint = f"set it, then: ftlaunch wait {self._run.name}"
            code = CredentialsMissing.exit_code
            self._say("error", text, job, hint=hint, exit_code=code, fatal=True)
            raise SystemExit(code)

    def _prepare(self, job: JobRecord) -> Job:
        wanted = spec.job_from_json(job.spec)
        attached = []
        for attach in wanted.attach:
            files = self._store.job(attach.job_id).files
            if files is None:
                raise Lost(f"the files of {self._run.name!r} are gone")
            attached.append(Attached(files, attach.at))
        return Job(
            name=job.name,
            plan=wanted.plan,
            inputs=(LocalTree(wanted.files), *attached),
            environment=wanted.environment,
            caches=wanted.caches,
            ports=wanted.ports,
            env=wanted.env,
            secrets=Secrets({name: os.environ[name] for name in wanted.secrets}),
            outputs=wanted.outputs,
            deadline=self._deadline(job),
        )

    def _deadline(self, job: JobRecord) -> timedelta | None:
        """What is left of the run's limit for this job.

        A training and what was planned with it share the limit; what was asked for later, and
        every new training, has the whole of it. A question to the model has none.
        """
        whole = self._spec.max_duration
        if whole is None or not _counts(job):
            return None
        if not spec.job_from_json(job.spec).after_success:
            return whole
        jobs = self._store.jobs(self._run.id)
        began = max((j.id for j in jobs if j.kind == "train" and j.id < job.id), default=0)
        spent = sum((_lasted(j) for j in jobs if began <= j.id < job.id), timedelta())
        if spent >= whole:
            raise Capped(
                f"nothing is left of the limit of {whole} for {job.kind}",
                hint=f"run it by itself with: ftlaunch {job.kind} {self._run.name}",
            )
        return whole - spent

    # ── watch ─────────────────────────────────────────────────────────────────────────────────

    def _watch(self, job: JobRecord, lease: Lease) -> None:
        last = None
        while not (seen := self._backend.observe(lease)).phase.ended:
            if seen.phase is not last:
                last = seen.phase
                self._store.set_phase(job.id, seen.phase, seen.reason)
                if seen.phase is Phase.UNKNOWN:
                    self._say("unknown", f"{self._backend.name} does not answer", job)
            time.sleep(POLL_S)
        self._verdict(job, seen)

    def _verdict(self, job: JobRecord, seen: Observation) -> None:
        self._store.mark_ended(
            job.id,
            seen.phase,
            exit_code=seen.exit_code,
            reason=seen.reason,
            cost=seen.cost,
            ended_at=_ended_at(seen),
        )
        self._say(
            "ended",
            f"{job.kind} {seen.phase}" + (f": {seen.reason}" if seen.reason else ""),
            job,
            phase=seen.phase.value,
            job_exit_code=seen.exit_code,
            hint=self._where_the_log_is(seen.phase),
        )

    def _where_the_log_is(self, phase: Phase) -> str:
        return "" if phase in _QUIET_ENDS else f"its whole log: ftlaunch logs {self._run.name}"

    # ── pull and release ──────────────────────────────────────────────────────────────────────

    def _pull(self, job: JobRecord) -> None:
        if job.files is None:
            return
        wanted = spec.job_from_json(job.spec)
        try:
            pulled = pull.pull(self._backend, job, self._run.output_dir, patterns=wanted.pull)
        except Lost as error:
            self._say("error", error.message, job, hint=error.hint, exit_code=error.exit_code)
            return
        self._store.mark_pulled(job.id)
        self._say(
            "pulled", pulled.sentence(), job, files=len(pulled.files), bytes=pulled.size_bytes
        )

    def _release(self, job: JobRecord) -> None:
        if job.lease is None:
            self._close(job, job.files)
            return
        keep = Keep.FILES if spec.job_from_json(job.spec).keep else Keep.NOTHING
        self._close(job, self._backend.release(job.lease, keep=keep))
        self._say("released", f"{job.kind} is let go of", job)

    def _close(self, job: JobRecord, files: Files | None) -> None:
        # The run's phase first: a crash between the two is then mended by closing again.
        if _counts(job):
            self._store.set_run(self._run.id, self._store.job(job.id).phase)
        self._store.mark_closed(job.id, files)

    def _failed(self, job: JobRecord, error: FtlaunchError) -> None:
        """The job cannot go on. What may bill stays open in the store; the rest is closed."""
        if isinstance(error, Unsure) and error.lease is not None:
            self._store.save_lease(job.id, error.lease)
        fatal = isinstance(error, MayStillBill)
        code = error.exit_code
        self._say("error", error.message, job, hint=error.hint, exit_code=code, fatal=fatal)
        if fatal:
            self._store.set_phase(job.id, Phase.UNKNOWN, error.message)
            raise SystemExit(code)
        self._store.mark_ended(
            job.id, Phase.FAILED, exit_code=None, reason=error.message, cost=None
        )
        try:
            self._release(self._store.job(job.id))
        except FtlaunchError as again:
            text = f"{job.kind} is not let go of: {again.message}"
            self._say("error", text, job, hint=again.hint, exit_code=8, fatal=True)
            raise SystemExit(MayStillBill.exit_code) from again

    # ── words ─────────────────────────────────────────────────────────────────────────────────

    def _say(self, kind: str, text: str, job: JobRecord, **data: object) -> None:
        self._store.say(self._run.id, kind, text, job_id=job.id, data=data)

    def _progress(self, job: JobRecord) -> _Progress:
        return _Progress(self, job)


class _Progress:
    """Passes a backend's progress on, at most a few times a second."""

    def __init__(self, conductor: Conductor, job: JobRecord) -> None:
        self._conductor = conductor
        self._job = job
        self._said = 0.0
        self._what = ""

    def __call__(self, what: str, *, done: int | None = None, total: int | None = None) -> None:
        now = time.monotonic()
        if what == self._what and now - self._said < 0.5 and done != total:
            return
        self._said, self._what = now, what
        self._conductor._say("progress", what, self._job, done=done, total=total)  # noqa: SLF001


def _counts(job: JobRecord) -> bool:
    """Whether the job's verdict is the run's: asking a model something does not change the run."""
    return job.kind != "inference"


def _ended_at(seen: Observation) -> datetime | None:
    """When the job ended by its own record: nobody may have looked for hours."""
    told = (seen.state or {}).get("ended_at")
    try:
        return datetime.fromisoformat(str(told)) if told else None
    except ValueError:
        return None


def _lasted(job: JobRecord) -> timedelta:
    if job.launched_at is None or not _counts(job):
        return timedelta()
    return (job.ended_at or datetime.now(UTC)) - job.launched_at


def main() -> None:
    """`python -m launcher.run.conductor RUN_ID`."""
    conduct(sys.argv[1])


if __name__ == "__main__":
    main()
