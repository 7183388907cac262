"""The verbs of the Jarvis Labs backend."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path, PurePosixPath

from backends import kept_prices, rundir
from backends.errors import (
    FtlaunchError,
    Lost,
    MayStillBill,
    NotLaunched,
    Refused,
    Unreachable,
    Unsupported,
)
from backends.jarvis import offers
from backends.jarvis.adopting import Adopting
from backends.jarvis.api import DASHBOARD, Account
from backends.jarvis.kept import Kept, require_inside
from backends.jarvis.launching import Launching, files_of, lease_of
from backends.jarvis.letting_go import LettingGo
from backends.jarvis.machines import Machines
from backends.jarvis.offers import NAME, Market
from backends.jarvis.pace import Pace
from backends.jarvis.reach import Reach, reachable
from backends.jarvis.records import Box, Held, Records, Stage
from backends.jarvis.rows import Row
from backends.job import Attached, Files, Job
from backends.lease import Address, Finding, Keep, Lease, Observation, Phase, Signal
from backends.offer import Money, Need, Offer
from backends.protocol import Options, Progress, silent
from backends.ssh.workplace import Workplace
from backends.verdicts import remembered, verdict_of

_SILENCE_S = 0.5

_GONE = "its machine is gone: destroyed outside ftlaunch, or finished from another computer"
_ELSEWHERE = "if another computer has finished it (ftlaunch ps --adopt), they are there"


def factory(options: Options) -> Jarvis:
    """What the entry point `jarvis` names. Raises BadInput for a detail it does not know."""
    return Jarvis(options)


class Jarvis:
    """Rents machines of Jarvis Labs; see docs/backends.md for what lies where."""

    name = NAME

    def __init__(self, options: Options) -> None:
        self._kind = offers.kind_of(options.detail)
        self._options = options
        root = self._root = options.state_dir.absolute()
        pace = Pace.of(options.environ)
        clock = options.clock
        self._account = Account(options.environ)
        self._records = Records(root)
        self._machines = Machines(self._account, self._records, pace, clock)
        self._reach = Reach(self._account, self._records, self._machines, pace)
        self._kept = Kept(root)
        self._letting_go = LettingGo(
            self._account, self._records, self._machines, self._reach, self._kept, clock=clock
        )
        self._home = Path(options.environ.get("HOME") or Path.home())
        self._launching = Launching(
            self._account,
            self._records,
            self._machines,
            self._reach,
            self._letting_go,
            home=self._home,
            clock=clock,
        )
        self._adopting = Adopting(self._account, self._records, self._reach, self._home, clock)

    # ── looking ───────────────────────────────────────────────────────────────────────────────

    def check(self) -> Sequence[Finding]:
        """See `Backend.check`."""
        from backends.jarvis import checking

        return checking.check(self._account, self._records)

    def offers(self, need: Need, *, live: bool) -> Sequence[Offer]:
        """See `Backend.offers`. Raises what `Account.catalogue` raises when live."""
        return offers.offers(self._live() if live else self._dated(), need, kind=self._kind)

    def _dated(self) -> Market:
        """The catalogue as it was last asked for, or the one that comes with ftlaunch."""
        shipped = offers.dated()
        return kept_prices.kept(self._root, offers.from_json, since=shipped.read_at) or shipped

    def _live(self) -> Market:
        gpus, plans = self._account.catalogue()
        now = self._options.clock()
        currency = self._account.currency()
        kept_prices.keep(self._root, offers.to_json(gpus, plans, currency), read_at=now)
        return Market(gpus, plans, currency, "Jarvis Labs, live", now, live=True)

    def leases(self) -> Sequence[Lease]:
        """See `Backend.leases`. Raises Unreachable when the provider does not say."""
        rows = [row for row in self._account.machines() if not row.ending]
        found = []
        ours: set[int | None] = set()
        for box in self._records.all():
            if box.held is Held.GONE:
                continue
            ours.add(box.machine)
            mine = [row for row in rows if row.id == box.machine or row.name == box.name]
            ours.update(row.id for row in mine)
            if not mine and not self._young(box):
                continue
            found += [lease_of(box, job) for job in self._billing(box, mine)]
        return found + self._adopting.strangers([row for row in rows if row.id not in ours])

    def _billing(self, box: Box, rows: Sequence[Row]) -> list[str]:
        """The jobs whose leases stand for a machine that may bill."""
        # One that sleeps costs what its disk costs: a lost job on it is files, no lease.
        if box.held is Held.PAUSED and any(row.paused for row in rows):
            return box.awaited_jobs()
        jobs = box.open_jobs()
        runs = any(not row.paused for row in rows)
        if not jobs and runs and not self._records.claimed(box.key):
            # Its pause or end failed, or whoever woke it died: a release of this job does it again.
            jobs = list(box.jobs)[-1:]
        return jobs

    def _young(self, box: Box) -> bool:
        """A machine that is being made or woken, or just was, may be missing from the list."""
        if any(self._records.claimed(name) for name in (box.key, *box.open_jobs())):
            return True
        return self._machines.young(box)

    def observe(self, lease: Lease) -> Observation:
        """See `Backend.observe`."""
        try:
            box = self._records.of_job(lease.job) or self._adopting.take(lease)
            if box is None:
                return Observation(Phase.LOST, reason="Jarvis Labs has no machine of that name")
            return self._observed(box, lease.job)
        except FtlaunchError as error:
            return Observation(Phase.UNKNOWN, reason=error.message)
        except OSError as error:
            return Observation(Phase.UNKNOWN, reason=str(error))

    def _observed(self, box: Box, job: str) -> Observation:
        note = box.jobs[job]
        cost = self._cost(box, job)
        if note.verdict is not None:
            return remembered(note.verdict, cost)
        if note.stage is Stage.RELEASED:
            return Observation(Phase.LOST, reason="it was let go of before its end", cost=cost)
        if note.stage is Stage.LAYING:
            if self._records.claimed(job):
                return Observation(Phase.STARTING, reason="its machine is being made", cost=cost)
            return Observation(Phase.LOST, reason="its launch was cut short", cost=cost)
        if box.held is Held.RUNNING:
            try:
                with reachable(box):
                    return self._seen(box, job, self._reach.workplace(box))
            except Unreachable as error:
                why = error.message
        else:
            why = "its machine does not run"
        return self._without_answer(box, job, why)

    def _seen(self, box: Box, job: str, place: Workplace) -> Observation:
        seen = place.status(job)
        cost = self._cost(box, job)
        if seen.state is None and not seen.alive:
            found = Observation(Phase.LOST, reason="its files are gone", cost=cost)
        else:
            found = rundir.observation(seen.state, alive=seen.alive, cost=cost)
        if found.phase.ended:
            self._records.note_verdict(box.key, job, verdict_of(found))
        return found

    def _without_answer(self, box: Box, job: str, why: str) -> Observation:
        """The machine is silent: what the provider says of it decides."""
        cost = self._cost(box, job)
        if self._records.claimed(box.key):
            return Observation(Phase.UNKNOWN, reason="its machine is being changed", cost=cost)
        with self._records.claim(box.key):
            box = self._records.box(box.key) or box
            row = self._machines.look_well(box)
            if row is None:
                self._records.save(replace(box, held=Held.GONE, machine=None, since=None))
                why = _GONE
                return Observation(Phase.LOST, reason=why, cost=cost)
            if row.paused:
                box = replace(box, held=Held.PAUSED, machine=row.id, since=None)
            elif box.held is Held.RUNNING or not row.running:
                return Observation(Phase.UNKNOWN, reason=why, cost=cost)
            # Else whoever woke it died before it could say so.
            return self._woken(replace(box, machine=row.id), job)

    def _woken(self, box: Box, job: str) -> Observation:
        """Paused by itself, by the provider, or by hand: what the job came to is on its disk.

        The machine stays awake, for who fetches it. With a lost job nobody may be on the way, and
        it sleeps again; what is small is copied first. The caller holds its claim.
        """
        box = self._reach.wake(self._records.save(box), name=box.name)
        try:
            with reachable(box):
                place = self._reach.workplace(box)
                found = self._seen(box, job, place)
                if found.phase is Phase.LOST:
                    with contextlib.suppress(Lost):
                        self._kept.take(job, place)
        finally:
            box = self._records.box(box.key) or box
            if not box.awaited_jobs():
                self._machines.pause(box)
        return found

    def _cost(self, box: Box, job: str) -> Money:
        """What the machine has cost since the job came to it."""
        spent = box.cost(self._options.clock()) - Decimal(box.jobs[job].before)
        return Money(max(spent, Decimal(0)), box.currency)

    # ── launching ─────────────────────────────────────────────────────────────────────────────

    def launch(
        self, job: Job, offer: Offer, *, on_lease: Callable[[Lease], None], progress: Progress
    ) -> Lease:
        """See `Backend.launch`."""
        self._refuse(job)
        try:
            with self._records.claim(job.name):
                return self._launching.launch(job, offer, on_lease, progress)
        except (NotLaunched, Refused, MayStillBill):
            raise
        except FtlaunchError as error:
            raise NotLaunched(error.message, hint=error.hint) from error
        except OSError as error:
            raise NotLaunched(
                f"this machine cannot launch the job: {error}", hint="see: ftlaunch check"
            ) from error

    def _refuse(self, job: Job) -> None:
        if job.nodes > 1:
            raise Unsupported(
                f"a job on Jarvis Labs is one machine, and this one asks for {job.nodes}",
                hint="ask for one node with more GPUs, or choose another backend: -b skypilot",
            )
        if job.kept_secrets:
            raise Unsupported(
                f"Jarvis Labs keeps no secrets, so it has no {job.kept_secrets[0]!r}",
                hint="name a variable of this terminal instead: -s NAME",
            )
        for item in job.inputs:
            if isinstance(item, Attached) and item.files.backend != NAME:
                raise Unsupported(
                    f"Jarvis Labs cannot reach files that {item.files.backend} keeps",
                    hint=f"run this job on {item.files.backend}",
                )

    # ── a living job ──────────────────────────────────────────────────────────────────────────

    def signal(self, lease: Lease, what: Signal, *, grace: timedelta) -> None:
        """See `Backend.signal`. Raises Unreachable when the machine does not take it in."""
        box = self._records.of_job(lease.job) or self._adopting.take(lease)
        if box is None or box.held is not Held.RUNNING:
            return
        note = box.jobs[lease.job]
        if note.verdict is not None or note.stage is not Stage.STARTED:
            return
        with reachable(box):
            self._reach.workplace(box).signal(lease.job, what, grace=grace)

    @contextlib.contextmanager
    def tunnel(self, lease: Lease, port: int) -> Iterator[Address]:
        """A private forward over ssh. See `Backend.tunnel`."""
        seen = self.observe(lease)
        box = self._records.of_job(lease.job)
        if seen.phase.ended or box is None:
            raise Lost(f"{lease.job} has ended, so nothing listens on its port {port}")
        with reachable(box), self._reach.host(box).forward(port) as address:
            yield address

    def release(self, lease: Lease, *, keep: Keep) -> Files | None:
        """See `Backend.release`."""
        with self._records.claim(lease.job):
            box = self._records.of_job(lease.job) or self._adopting.take(lease)
            if box is None:
                return None
            with self._records.claim(box.key):
                box = self._records.box(box.key)
                if box is None:
                    return None
                try:
                    box = self._letting_go.release(box, lease.job, keep)
                except OSError as error:
                    raise MayStillBill(
                        f"the end of {box.name!r} cannot be noted on this computer: {error}",
                        hint="make room, and try again; or end it at " + DASHBOARD,
                    ) from error
            return files_of(lease.job) if box.jobs[lease.job].kept else None

    # ── files ─────────────────────────────────────────────────────────────────────────────────

    def read(
        self, files: Files, path: PurePosixPath, *, offset: int, follow: bool
    ) -> Iterator[bytes]:
        """See `Backend.read`."""
        require_inside(path)
        box, job = self._box(files)
        box = self._asleep(box)
        here = None if box.used else self._kept.path(job, path)
        if here is not None:
            return _chunks(here.read_bytes()[offset:], follow=follow)
        known = None if box.used else self._kept.listing(job)
        if known is not None and path not in known and not box.jobs[job].may_link(path):
            raise Lost(f"there is no file {str(path)!r} among the files of {job}")
        if box.used:
            with reachable(box):
                place = self._reach.workplace(box)
                content = place.read(job, path, offset=offset, follow=follow)
            return _while_reachable(box, content)
        with self._reach.awake(box) as place:
            whole = b"".join(place.read(job, path, offset=offset, follow=False))
        return _chunks(whole, follow=follow)

    def fetch(self, files: Files, paths: Sequence[PurePosixPath], into: Path) -> None:
        """See `Backend.fetch`."""
        box, job = self._box(files)
        for path in paths:
            require_inside(path)
        with self._reach.awake(box) as place:
            place.fetch(job, paths, into, told=silent)

    def listing(self, files: Files) -> Mapping[PurePosixPath, int]:
        """See `Backend.listing`."""
        box, job = self._box(files)
        box = self._asleep(box)
        if not box.used and (known := self._kept.listing(job)) is not None:
            return known
        with self._reach.awake(box) as place:
            return place.listing(job)

    def discard(self, files: Files) -> None:
        """See `Backend.discard`. Raises Refused while the job still runs."""
        job = files.data.get("job", files.id)
        with self._records.claim(job):
            box = self._records.of_job(job)
            if box is None or box.held is Held.GONE:
                return
            # Before the machine is claimed: a look at a silent one claims it.
            if not self._observed(box, job).phase.ended:
                raise Refused(f"{job} still runs", hint="end it first: ftlaunch stop")
            with self._records.claim(box.key):
                box = self._records.box(box.key) or box
                self._letting_go.release(box, job, Keep.NOTHING)

    def billed(self, lease: Lease) -> Money | None:  # noqa: ARG002 - the contract names it
        """Its SDK has no bill by machine. See `Backend.billed`."""
        return None

    def clean(self) -> Sequence[Finding]:
        """See `Backend.clean`."""
        from backends.jarvis import checking

        return checking.clean(self._account, self._records, self._machines)

    def _asleep(self, box: Box) -> Box:
        """A machine that somebody left awake is put to sleep: to look at copies would not do it.

        Raises MayStillBill when that cannot be had.
        """
        if not box.roused or self._records.claimed(box.key):
            return box
        with self._records.claim(box.key):
            box = self._records.box(box.key) or box
            return self._machines.pause(box) if box.roused else box

    def _box(self, files: Files) -> tuple[Box, str]:
        """The machine a job's files are on. Raises Lost when they are no longer anywhere."""
        job = files.data.get("job", files.id)
        box = self._records.of_job(job) or self._adopting.take_name(job)
        gone = box is None or box.held is Held.GONE
        note = None if box is None else box.jobs[job]
        if gone or note is None or (note.stage is Stage.RELEASED and not note.kept):
            raise Lost(f"the files of {job!r} are no longer at Jarvis Labs", hint=_ELSEWHERE)
        assert box is not None
        return box, job


def _while_reachable(box: Box, chunks: Iterator[bytes]) -> Iterator[bytes]:
    with reachable(box):
        yield from chunks


def _chunks(content: bytes, *, follow: bool) -> Iterator[bytes]:
    """A file that grows no more: its bytes, then silence."""
    if content:
        yield content
    while follow:
        time.sleep(_SILENCE_S)
        yield b""
