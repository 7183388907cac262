"""The verbs of the local backend."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path, PurePosixPath

from backends import plan, rundir, runner
from backends.errors import (
    BadInput,
    Lost,
    MayStillBill,
    NotLaunched,
    Refused,
    Unsupported,
    Unsure,
)
from backends.job import Attached, Files, Job
from backends.lease import Address, Finding, Keep, Lease, Observation, Phase, Signal
from backends.local import caches, layout, supervisor, surroundings, transfer
from backends.local.shelf import NAME, Record, Shelf, Stage, write_private
from backends.offer import FREE, Money, Need, Offer
from backends.protocol import Options, Progress

_NOT_HERE = "there is nothing of it on this machine"


def factory(options: Options) -> Local:
    """What the entry point `local` names. Raises BadInput for a detail: there is one machine."""
    if options.detail:
        raise BadInput(
            f"the local backend takes no detail, and was given {options.detail!r}",
            hint="write just: local",
        )
    return Local(options)


class Local:
    """Runs jobs as processes of this machine; see `backends.local` for what lies where."""

    name = NAME

    def __init__(self, options: Options) -> None:
        self._options = options
        self._shelf = Shelf(options.state_dir.absolute())

    # ── looking ───────────────────────────────────────────────────────────────────────────────

    def check(self) -> Sequence[Finding]:
        """See `Backend.check`."""
        return [self._check_state_dir(), _check_gpus()]

    def _check_state_dir(self) -> Finding:
        import tempfile  # takes its time, and only a check needs it

        root = self._shelf.root
        try:
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=root):
                pass
        except OSError as error:
            hint = "make it a folder you can write to, or set FTLAUNCH_STATE_DIR to another"
            return Finding("state folder", False, f"{root}: {error.strerror}", hint)
        return Finding("state folder", True, str(root))

    def offers(self, need: Need, *, live: bool) -> Sequence[Offer]:
        """This machine, free of charge, if it has what is needed. See `Backend.offers`."""
        del live  # nothing here is on a network
        gpus = surroundings.wanted(need, surroundings.gpus())
        cpus, memory = surroundings.cpus(), surroundings.memory_gib()
        too_little = (need.cpus or 0) > cpus or (need.memory_gib or 0) > memory
        if gpus is None or too_little or need.nodes > 1 or need.recover:
            return []
        offer = Offer(
            backend=NAME,
            gpu=gpus[0].name if gpus else None,
            count=len(gpus),
            price=FREE,
            memory_gib=memory,
            gpu_memory_gib=gpus[0].memory_gib if gpus else None,
            cpus=cpus,
            source="this machine",
            read_at=self._options.clock(),
            here=True,
            # Only those asked for: a trainer takes every GPU that it can see.
            data={"devices": ",".join(str(gpu.index) for gpu in gpus)} if need.gpus else {},
        )
        return [offer]

    def leases(self) -> Sequence[Lease]:
        """Every job that is still alive, or that somebody is launching now."""
        return [
            record.lease()
            for record in self._shelf.records()
            if record.stage is not Stage.RELEASED and self._lives(record)
        ]

    def _lives(self, record: Record) -> bool:
        seen = supervisor.look(self._shelf.home(record.job))
        if seen.state is None and not seen.alive:
            return self._shelf.claimed(record.job)
        return seen.alive or seen.leftover

    def observe(self, lease: Lease) -> Observation:
        """See `Backend.observe`."""
        try:
            record = self._shelf.find(lease.id)
            if record is None and not self._shelf.root.is_dir():
                why = f"{self._shelf.root} is not there; is its disk mounted?"
                return Observation(Phase.UNKNOWN, reason=why, cost=FREE)
            if record is None:
                return Observation(Phase.LOST, reason=_NOT_HERE, cost=FREE)
            return self._look(record)
        except OSError as error:
            return Observation(Phase.UNKNOWN, reason=str(error), cost=FREE)

    def _look(self, record: Record) -> Observation:
        home = self._shelf.home(record.job)
        seen = supervisor.look(home)
        if seen.state is not None or seen.alive:
            return rundir.observation(seen.state, alive=seen.alive, cost=FREE)
        if self._shelf.claimed(record.job):
            return Observation(Phase.STARTING, reason="its files are being laid out", cost=FREE)
        return Observation(Phase.LOST, reason="its launch was cut short", cost=FREE)

    # ── launching ─────────────────────────────────────────────────────────────────────────────

    def launch(
        self, job: Job, offer: Offer, *, on_lease: Callable[[Lease], None], progress: Progress
    ) -> Lease:
        """See `Backend.launch`."""
        del offer  # there is one machine
        self._refuse(job)
        try:
            with self._shelf.claim(job.name) as claim:
                known = self._known(job)
                if known is not None:
                    on_lease(known)
                    return known
                return self._start(job, claim, on_lease, progress)
        except OSError as error:
            raise NotLaunched(
                f"this machine cannot run the job: {error}", hint="see: ftlaunch check"
            ) from error

    def _refuse(self, job: Job) -> None:
        if job.nodes > 1:
            raise Unsupported(
                f"the local backend is one machine, and the job asks for {job.nodes}",
                hint="ask for one node, or choose another backend: -b skypilot",
            )
        if job.kept_secrets:
            raise Unsupported(
                f"the local backend keeps no secrets, so it has no {job.kept_secrets[0]!r}",
                hint="name a variable of this terminal instead: -s NAME",
            )
        for item in job.inputs:
            if isinstance(item, Attached) and item.files.backend != NAME:
                raise Unsupported(
                    f"the local backend cannot reach files that {item.files.backend} keeps",
                    hint=f"run this job on {item.files.backend} too",
                )

    def _known(self, job: Job) -> Lease | None:
        """The lease this name has already; None when it is free or its launch was cut short."""
        record = self._shelf.record(job.name)
        if record is None:
            return None
        seen = supervisor.look(self._shelf.home(job.name))
        started = seen.alive or seen.state is not None
        if record.stage is not Stage.RELEASED and not started:
            return None
        if record.stage is Stage.RELEASED or record.request != _request(job):
            raise NotLaunched(
                f"another job named {job.name!r} left its files here",
                hint="give this one another name, or remove the other",
            )
        return record.lease()

    def _start(
        self, job: Job, claim: int, on_lease: Callable[[Lease], None], progress: Progress
    ) -> Lease:
        record = self._shelf.begin(
            job.name,
            request=_request(job),
            now=self._options.clock(),
            before=self._shelf.record(job.name),
        )
        home = self._shelf.home(job.name)
        lease = record.lease()
        try:
            on_lease(lease)
            layout.lay(self._shelf, home, job, progress)
            self._write_plan(home, job)
            self._shelf.advance(record, Stage.STARTED)
            environment = surroundings.variables(job, self._options.environ)
            supervisor.start(home, environment, claim)
        except BaseException:
            self._undo(lease)
            raise
        return lease

    def _undo(self, lease: Lease) -> None:
        """Leave nothing of a launch that failed; Unsure when that cannot be had."""
        try:
            supervisor.end(self._shelf.home(lease.job))
        except MayStillBill as error:
            told = f"the launch failed, and {error.message}"
            raise Unsure(told, intent=lease.job, lease=lease, hint=error.hint) from error
        self._shelf.remove(lease.job)

    def _write_plan(self, home: Path, job: Job) -> None:
        document = plan.document(job.plan, job=job.name, outputs=job.outputs, deadline=job.deadline)
        write_private(home / rundir.PLAN, json.dumps(document, indent=1).encode())
        write_private(home / rundir.RUNNER, supervisor.source())

    # ── a living job ──────────────────────────────────────────────────────────────────────────

    def signal(self, lease: Lease, what: Signal, *, grace: timedelta) -> None:
        """See `Backend.signal`."""
        record = self._shelf.find(lease.id)
        if record is None:
            return
        home = self._shelf.home(record.job)
        if what is Signal.STOP:
            runner.request_stop(str(home), grace.total_seconds())
        else:
            runner.request_checkpoint(str(home))

    @contextlib.contextmanager
    def tunnel(self, lease: Lease, port: int) -> Iterator[Address]:
        """The port itself: the job is on this machine. See `Backend.tunnel`."""
        if self.observe(lease).phase.ended:
            raise Lost(f"{lease.job} has ended, so nothing listens on its port {port}")
        yield Address("127.0.0.1", port)

    def release(self, lease: Lease, *, keep: Keep) -> Files | None:
        """See `Backend.release`."""
        with self._claimed(lease.id) as record:
            if record is None:
                return None
            supervisor.end(self._shelf.home(record.job))
            if keep is Keep.NOTHING:
                self._remove(record)
                return None
            return self._shelf.advance(record, Stage.RELEASED).files()

    # ── files ─────────────────────────────────────────────────────────────────────────────────

    def read(
        self, files: Files, path: PurePosixPath, *, offset: int, follow: bool
    ) -> Iterator[bytes]:
        """See `Backend.read`."""
        source = transfer.opened(self._home(files), path)
        return transfer.chunks(source, offset=offset, follow=follow)

    def fetch(self, files: Files, paths: Sequence[PurePosixPath], into: Path) -> None:
        """See `Backend.fetch`."""
        transfer.fetch(self._home(files), paths, into)

    def listing(self, files: Files) -> Mapping[PurePosixPath, int]:
        """See `Backend.listing`."""
        return transfer.listing(self._home(files))

    def discard(self, files: Files) -> None:
        """See `Backend.discard`. Raises Refused while the job still runs."""
        with self._claimed(files.id) as record:
            if record is None:
                return
            if supervisor.look(self._shelf.home(record.job)).alive:
                raise Refused(f"{record.job} still runs", hint="end it first: ftlaunch stop")
            self._remove(record)

    def billed(self, lease: Lease) -> Money | None:  # noqa: ARG002 - the contract names it
        """Nobody sends a bill for this machine. See `Backend.billed`."""
        return None

    def clean(self) -> Sequence[Finding]:
        """Caches that no job's files refer to any more. See `Backend.clean`."""
        return caches.clean(self._shelf)

    def _home(self, files: Files) -> Path:
        record = self._shelf.find(files.id)
        if record is None:
            raise Lost(f"the files of {files.id!r} are no longer on this machine")
        return self._shelf.home(record.job)

    @contextlib.contextmanager
    def _claimed(self, known_id: str) -> Iterator[Record | None]:
        """The record of an id, while nobody else changes it; None when there is none."""
        first = self._shelf.find(known_id)
        if first is None:
            yield None
            return
        with self._shelf.claim(first.job):
            yield self._shelf.find(known_id)

    def _remove(self, record: Record) -> None:
        self._shelf.remove(record.job)
        self._shelf.forget_lock(record.job)


def _check_gpus() -> Finding:
    found = surroundings.gpus()
    names = ", ".join(f"{gpu.name} ({gpu.memory_gib:.0f} GiB)" for gpu in found)
    return Finding("GPU", True, names or "none: jobs run on the CPU")


def _request(job: Job) -> str:
    """A digest of what the job does, without its deadline: a repeated launch has a shorter one."""
    document = plan.document(job.plan, job=job.name, outputs=job.outputs, deadline=None)
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
