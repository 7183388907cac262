"""Asking a run's model: each question is a job of its own, on the files the training left.

The training's machine is long gone. What the question needs is attached, not sent again.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import secrets as random_source
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path, PurePosixPath
from typing import Generic, NamedTuple, TypeVar

from backends.errors import BY_EXIT_CODE, Failed, FtlaunchError, Lost, MayStillBill
from backends.job import LocalFile
from backends.lease import Lease, Phase
from backends.offer import Money
from backends.protocol import Backend, Progress, silent
from launcher import answers, launch, places
from launcher.commands import TOKEN_VARIABLE, Decoding
from launcher.on_finish import bills
from launcher.run import build, conductor, further, inventory
from launcher.run.adding import add_job
from launcher.run.follow import Follower, Said
from launcher.run.loaded import Backends
from launcher.run.logs import LogReader, lines_here
from launcher.run.placing import Place, place
from launcher.run.spec import JobSpec, RunSpec
from launcher.run.staging import stage
from launcher.run.stop import end_job
from launcher.store import Event, JobRecord, RunRecord, Store

Say = Callable[[str], None] | None


def asker(
    store: Store,
    run: RunRecord,
    *,
    base: bool = False,
    backend: str | None = None,
    gpus: tuple[tuple[str, int], ...] = (),
    progress: Progress = silent,
) -> Asker:
    """Who asks a run's model: where its training was, or on another backend or other hardware.

    Raises what `further.trained` and `placing.place` raise.
    """
    backends = Backends()
    trained = further.trained(store, run, backends)
    there = place(
        store,
        run,
        trained,
        backends=backends,
        backend=backend,
        gpus=gpus,
        progress=progress,
    )
    return Asker(store, run, trained, there, backends, base=base)


_GRACE = timedelta(seconds=5)
_ENDING_S = 240.0
"""How long an end that is paid for is waited for: a machine may take minutes to go."""

T = TypeVar("T")


class Told(NamedTuple, Generic[T]):
    """What a job answered, what went wrong once that had come home (its end, say), its cost."""

    answer: T
    trouble: FtlaunchError | None
    cost: Money | None


class Counted(NamedTuple):
    """How many rows got an answer, and how many an error instead."""

    answers: int
    errors: int


@dataclass(frozen=True)
class Asker:
    """A run's model, and how it is asked.

    trained  the job that made it
    there    where questions are answered
    base     the base model as it was before the training
    """

    store: Store
    run: RunRecord
    trained: JobRecord
    there: Place
    backends: Backends
    base: bool = False

    @property
    def backend(self) -> Backend:
        """Where questions are answered."""
        return self.there.backend

    def one(self, text: str, *, say: Say) -> Told[str]:
        """Axolotl's own answer to one prompt. Raises Failed with the last lines of its log."""
        staged = self._stage(PurePosixPath("prompt.txt"), text.encode())
        spec = build.prompt(self._spec, self.trained.id, staged, base=self.base)
        job, trouble = self._finished(spec, say)
        log = self.log(job) if trouble is None else self._log_here(job)
        return Told(answers.extract_answer("\n".join(log), prompt=text), trouble, self._cost(job))

    def many(self, asked: bytes, output: Path, *, decoding: Decoding, say: Say) -> Told[Counted]:
        """Answer each row of a prompts file into `output`, in order."""
        rows = self._stage(PurePosixPath("prompts.jsonl"), asked)
        spec = build.prompts(self._spec, self.trained.id, rows, base=self.base, decoding=decoding)
        job, trouble = self._finished(spec, say)
        try:
            found = (inventory.home(self.run, job) / build.ANSWERS).read_bytes()
        except OSError as error:
            raise Lost("the answers are gone") from error
        output.parent.mkdir(parents=True, exist_ok=True)
        partial = output.with_name(output.name + ".partial")
        partial.write_bytes(found)
        partial.replace(output)
        lines = [json.loads(line) for line in found.splitlines()]
        failed = sum("error" in line for line in lines)
        return Told(Counted(len(lines) - failed, failed), trouble, self._cost(job))

    @contextmanager
    def chat(self, *, idle_seconds: int, say: Say) -> Iterator[tuple[Lease, int, str]]:
        """A chat that is up: its lease, its port and the token that opens it. Ended at the end."""
        token = random_source.token_urlsafe(24)
        os.environ[TOKEN_VARIABLE] = token
        port = free_port()
        spec = build.chat(
            self._spec, self.trained.id, port=port, idle_seconds=idle_seconds, base=self.base
        )
        with self._served(spec, say) as lease:
            yield lease, port, token

    @contextmanager
    def page(self, *, idle_seconds: int, say: Say) -> Iterator[tuple[Lease, int]]:
        """A web page that is being served: its lease and its port. Ended at the end."""
        port = free_port()
        spec = build.gradio(
            self._spec, self.trained.id, port=port, idle_seconds=idle_seconds, base=self.base
        )
        with self._served(spec, say) as lease:
            yield lease, port

    def log(self, job: JobRecord) -> Iterator[str]:
        """The job's log lines."""
        if job.files is not None:
            state = inventory.state(self.backend, job.files)
            for line in LogReader(self.backend, job.files).lines(state):
                yield line.text
            return
        yield from self._log_here(job)

    def _log_here(self, job: JobRecord) -> Iterator[str]:
        for line in lines_here(inventory.home(self.run, job), job.id):
            yield line.text

    def alive(self, lease: Lease) -> bool:
        """Whether the served program still runs."""
        return not self.backend.observe(lease).phase.ended

    # ── the parts ─────────────────────────────────────────────────────────────────────────────

    def _cost(self, job: JobRecord) -> Money | None:
        """None where nothing was rented, or nobody knows."""
        return self.store.job(job.id).cost if bills(self.there.offer) else None

    @property
    def _spec(self) -> RunSpec:
        return self.there.settled

    def _stage(self, at: PurePosixPath, content: bytes) -> LocalFile:
        return stage(places.run_dir(self.run.id) / "staged", at, content)

    def _start(self, spec: JobSpec) -> int:
        further.require_idle(self.store, self.run)
        launch.require_secrets(spec.secrets)
        offer, where = self.there.offer, self.there.spec
        added = add_job(self.store, self.run, spec, offer, backend=where)
        conductor.start(self.run.id)
        return added

    def _finished(self, spec: JobSpec, say: Say) -> tuple[JobRecord, FtlaunchError | None]:
        """The job that answered, and what went wrong after its results had come home."""
        after = further.last_event(self.store, self.run)
        job_id = self._start(spec)
        error: FtlaunchError | None = None
        told = ""
        following = Follower(self.store, self.run, self.backends, after=after, logs=False)
        for said in self._unless_interrupted(following, job_id):
            if said.event is None:
                continue
            if said.event.kind == "error":
                error = _told_error(said.event)
            elif say is not None and said.event.kind == "progress" and said.event.text != told:
                told = said.event.text
                say(told)
        job = self.store.job(job_id)
        if error is not None and (job.phase is not Phase.SUCCEEDED or job.pulled_at is None):
            raise error
        if job.phase is not Phase.SUCCEEDED:
            last = list(self.log(job))[-15:]
            raise Failed(
                f"the model gave no answer: the job {job.phase} ({job.reason or job.exit_code})",
                hint="\n".join([*last, f"all of it: ftlaunch logs {self.run.name}"]),
            )
        return job, error

    def _unless_interrupted(self, following: Follower, job_id: int) -> Iterator[Said]:
        """Nobody waits for the answer any more once Ctrl-C was pressed: the job is ended."""
        try:
            yield from following
        except KeyboardInterrupt:
            self._end(job_id)
            raise

    @contextmanager
    def _served(self, spec: JobSpec, say: Say) -> Iterator[Lease]:
        after = further.last_event(self.store, self.run)
        job_id = self._start(spec)
        try:
            yield self._up(job_id, after, say)
        finally:
            self._end(job_id)

    def _up(self, job_id: int, after: int, say: Say) -> Lease:
        if say is not None:
            say("the model is being loaded")
        for look in itertools.count(1):
            job = self.store.job(job_id)
            told = [e for e in self.store.events(self.run.id, after=after) if e.kind == "error"]
            if told:
                raise _told_error(told[-1])
            if job.ended_at is not None:
                last = "\n".join(list(self.log(job))[-15:])
                raise Failed(f"the job {job.phase}: {job.reason}", hint=last)
            if job.lease is not None and job.launched_at is not None:
                return job.lease
            if look % 50 == 0:  # the conductor that should launch it may be gone
                conductor.start(self.run.id)
            time.sleep(0.1)
        raise AssertionError

    def _end(self, job_id: int) -> None:
        """End the job, whatever it is at, and wait for the end to be confirmed.

        Raises MayStillBill when that does not come, and what it runs on costs money.
        """
        billed = bills(self.there.offer)
        end = time.monotonic() + (_ENDING_S if billed else 60)
        self.store.ask_stop(job_id, _GRACE)
        conductor.start(self.run.id)
        while time.monotonic() < end:
            job = self.store.job(job_id)
            if job.closed_at is not None:
                return
            with contextlib.suppress(FtlaunchError):  # the conductor asks again
                end_job(self.store, job, self.backends, _GRACE)
            time.sleep(0.2)
        if billed:
            raise MayStillBill(
                f"{self.store.job(job_id).kind} has not confirmed its end, and may still bill",
                hint=f"end it with: ftlaunch stop {self.run.name}",
            )


def _told_error(event: Event) -> FtlaunchError:
    """What a conductor said went wrong, as the error it was."""
    kind = BY_EXIT_CODE.get(event.data.get("exit_code"), Failed)
    return kind(event.text, hint=str(event.data.get("hint", "")))


def free_port() -> int:
    """A port of this machine's loopback that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
