"""The verbs of the Modal backend."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import Any

from backends import kept_prices, rundir
from backends.errors import (
    BadInput,
    FtlaunchError,
    Lost,
    MayStillBill,
    NotLaunched,
    Refused,
    Unsupported,
)
from backends.job import Files, Job
from backends.lease import Address, Finding, Keep, Lease, Observation, Phase, Signal
from backends.modal import catalog, clusters, door, offers
from backends.modal.account import DASHBOARD, PREFIX, Account, translated
from backends.modal.calls import Calls
from backends.modal.catalog import Rates
from backends.modal.ftlaunch_job import TAKEN
from backends.modal.launching import Launching, files_of, is_attached_elsewhere, lease_of
from backends.modal.offers import NAME
from backends.modal.records import Note, Records, Stage
from backends.modal.shelf import Shelf
from backends.offer import Money, Need, Offer
from backends.protocol import Options, Progress
from backends.verdicts import remembered, verdict_of

OBEY_S = 60.0
"""How long a container has to end at once by itself, with what it can still keep."""
PACE = "FTLAUNCH_PACE"
"""How many times quicker than the real one the provider is: for a loopback provider."""


def _pace(environ: Mapping[str, str]) -> float:
    """The real one's, where the variable says nothing that makes sense."""
    try:
        return max(1.0, float(environ.get(PACE, "1")))
    except ValueError:
        return 1.0


class Modal:
    """Runs jobs in containers of Modal; see docs/backends.md for what lies where."""

    name = NAME

    def __init__(self, options: Options) -> None:
        if options.detail:
            raise BadInput(f"the backend modal has no {options.detail!r}", hint="write: -b modal")
        self._options = options
        self._account = Account(options.environ)
        self._root = options.state_dir.absolute()
        self._records = Records(self._root)
        self._shelf = Shelf(self._account)
        self._calls = Calls(self._account)
        self._launching = Launching(
            self._account,
            self._records,
            self._shelf,
            stop=self._calls.end_app,
            adopted=self._adopted,
            clock=options.clock,
            pace=_pace(options.environ),
        )

    # ── looking ───────────────────────────────────────────────────────────────────────────────

    def check(self) -> Sequence[Finding]:
        """See `Backend.check`."""
        from backends.modal import checking

        return checking.check(self._account, self._records)

    def offers(self, need: Need, *, live: bool) -> Sequence[Offer]:
        """See `Backend.offers`. Raises CredentialsMissing and Unreachable when live."""
        if not live:
            return offers.offers(self._dated(), need)
        now, rates = self._options.clock(), self._account.rates()
        found = catalog.live(rates, now)
        texts = {name: str(rate) for name, rate in rates.items()}
        kept = {name: text for name, text in texts.items() if catalog.is_price(text)}
        kept_prices.keep(self._root, {"rates": kept}, read_at=now)
        return offers.offers(found, need)

    def _dated(self) -> Rates:
        """The rates as they were last asked for, or those that come with ftlaunch."""
        shipped = catalog.dated()
        return kept_prices.kept(self._root, catalog.from_json, since=shipped.read_at) or shipped

    def leases(self) -> Sequence[Lease]:
        """See `Backend.leases`. Raises Unreachable when the provider does not say."""
        apps = [job for _, job in self._account.apps()]
        young = [
            note
            for note in self._records.all()
            if note.stage in {Stage.LAYING, Stage.ASKED} and note.job not in apps
        ]
        found = [lease_of(note) for note in young if self._records.claimed(note.job)]
        for job in apps:
            note = self._records.get(job) or self._adopted(job)
            if note.stage is not Stage.RELEASED and note.verdict is None:
                found.append(lease_of(note))
            elif note.stage is Stage.RELEASED:
                found.append(lease_of(note))  # its end was not confirmed
        return [*found, *(lease_of(self._adopted(job)) for job in self._left_behind(apps))]

    def _left_behind(self, running: Collection[str]) -> list[str]:
        """Run directories that nobody here knows: of a computer that never came back for them."""
        known = {*running, *(note.job for note in self._records.all())}
        return [
            job for job in self._shelf.jobs() if job not in known and self._shelf.left_behind(job)
        ]

    def _adopted(self, job: str) -> Note:
        """What is known of a job that another computer launched: what its container wrote down."""
        written = self._shelf.note(job)
        about = written.get("note") or {}
        return Note(
            job=job,
            lease=str(about.get("lease") or job),
            created_at=str(about.get("created_at") or datetime.now(UTC).isoformat()),
            price=str(about.get("price") or "0"),
            app=str(written.get("app") or ""),
            call=str(written.get("call") or ""),
            stage=Stage.STARTED,
        )

    def _note(self, job: str) -> Note | None:
        """What is known of a job, here or at Modal; None where it is known nowhere."""
        known = self._records.get(job)
        if known is not None:
            return known
        if not self._shelf.exists(job):
            return None
        return self._records.save(self._adopted(job))

    def observe(self, lease: Lease) -> Observation:
        """See `Backend.observe`."""
        try:
            note = self._note(lease.job)
            if note is None or (note.lease != lease.id and note.request):
                return Observation(Phase.LOST, reason="Modal has no job of that name")
            return self._observed(note)
        except FtlaunchError as error:
            return Observation(Phase.UNKNOWN, reason=error.message)
        except OSError as error:
            return Observation(Phase.UNKNOWN, reason=str(error))

    def _observed(self, note: Note) -> Observation:
        if note.verdict is not None:
            return _remembered(note)
        if note.stage is Stage.RELEASED:
            return Observation(Phase.LOST, reason="it was let go of before its end")
        if note.stage is not Stage.STARTED:
            if self._records.claimed(note.job):
                return Observation(Phase.STARTING, reason="it is being launched")
            return Observation(Phase.LOST, reason="its launch was cut short")
        state = self._shelf.state(note.job)
        if rundir.phase(state).ended:
            return self._verdict(note, rundir.observation(state, alive=False), state)
        over, why = self._calls.is_over(note)
        if not over:
            return self._alive(note, state)
        # What it committed last may have come after the first look.
        state = self._shelf.state(note.job)
        if rundir.phase(state).ended:
            return self._verdict(note, rundir.observation(state, alive=False), state)
        if state is None and not self._shelf.exists(note.job):
            why = "its files are gone from Modal: finished from another computer, or removed there"
        lost = Observation(Phase.LOST, reason=why or "its container is gone", state=state)
        return self._verdict(note, lost, state)

    def _alive(self, note: Note, state: Mapping[str, Any] | None) -> Observation:
        cost = _cost(note, state)
        if state is None:
            if self._shelf.note(note.job):
                # It bills, and what it works on may take minutes to be there.
                return Observation(Phase.STARTING, reason="its container starts", cost=cost)
            waited = datetime.now(UTC) - datetime.fromisoformat(note.created_at)
            minutes = int(waited.total_seconds() // 60)
            long = f" after {minutes} min; waiting costs nothing" if minutes else ""
            why = f"Modal has no container for it yet{long}"
            return Observation(Phase.QUEUED, reason=why, cost=cost)
        return rundir.observation(state, alive=True, cost=cost)

    def _verdict(
        self, note: Note, found: Observation, state: Mapping[str, Any] | None
    ) -> Observation:
        found = replace(found, cost=_cost(note, state), state=state)
        self._records.save(replace(self._records.get(note.job) or note, verdict=verdict_of(found)))
        return found

    # ── launching ─────────────────────────────────────────────────────────────────────────────

    def launch(
        self, job: Job, offer: Offer, *, on_lease: Callable[[Lease], None], progress: Progress
    ) -> Lease:
        """See `Backend.launch`."""
        if job.nodes > 1:
            clusters.require_words(job.nodes, offer.data.get("gpus", ""))
        if (elsewhere := is_attached_elsewhere(job)) is not None:
            raise Unsupported(
                f"Modal cannot reach files that {elsewhere} keeps",
                hint=f"run this job on {elsewhere}",
            )
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

    # ── a living job ──────────────────────────────────────────────────────────────────────────

    def signal(self, lease: Lease, what: Signal, *, grace: timedelta) -> None:
        """See `Backend.signal`. The container takes it in with its next look, in seconds."""
        note = self._note(lease.job)
        if note is None or note.verdict is not None or note.stage is not Stage.STARTED:
            return
        if rundir.phase(self._shelf.state(note.job)).ended:
            return
        asked = {
            "number": time.time_ns(),
            "what": what.value,
            "grace_s": grace.total_seconds(),
        }
        control = self._account.control()
        with translated():
            control[note.job] = asked
        if what is Signal.STOP and note.call:
            self._stop_in_queue(note)
            if not grace:
                self._end_now(note)

    def _end_now(self, note: Note) -> None:
        """Whoever does not obey is ended: the container may be gone, or wait for its Volume."""
        end = time.monotonic() + OBEY_S
        while time.monotonic() < end:
            if self._observed(self._records.get(note.job) or note).phase.ended:
                return
            time.sleep(0.5)
        over = self._calls.cancel(note)
        if over and not rundir.phase(state := self._shelf.state(note.job)).ended:
            self._verdict(note, Observation(Phase.STOPPED, reason="ended at once"), state)

    def _stop_in_queue(self, note: Note) -> None:
        """Nobody is there to take the signal in before there is a container: the call is ended."""
        if self._shelf.state(note.job) is not None or self._shelf.note(note.job):
            return
        if self._calls.cancel(note) and self._shelf.state(note.job) is None:
            stopped = Observation(Phase.STOPPED, reason="stopped before it began")
            self._verdict(note, stopped, None)

    @contextlib.contextmanager
    def tunnel(self, lease: Lease, port: int) -> Iterator[Address]:
        """A private forward over ssh. See `Backend.tunnel`."""
        if self.observe(lease).phase.ended:
            raise Lost(f"{lease.job} has ended, so nothing listens on its port {port}")
        with door.tunnel(
            self._records,
            lease.job,
            port,
            note=lambda: self._shelf.note(lease.job),
            queued=lambda: self.observe(lease).phase in {Phase.QUEUED, Phase.STARTING},
        ) as address:
            yield address

    def release(self, lease: Lease, *, keep: Keep) -> Files | None:
        """See `Backend.release`."""
        with self._records.claim(lease.job):
            note = self._note_for_release(lease)
            if note is None:
                return None
            self._end(note)
            return self._let_go(note, keep)

    def _note_for_release(self, lease: Lease) -> Note | None:
        try:
            note = self._note(lease.job)
            if note is None and any(job == lease.job for _, job in self._account.apps()):
                return self._adopted(lease.job)
        except FtlaunchError as error:
            raise MayStillBill(
                f"Modal does not say how {lease.job} stands: {error.message}", hint=_BY_HAND
            ) from error
        return note

    def _end(self, note: Note) -> None:
        """Stop the job's app, and be sure of it. Raises MayStillBill."""
        try:
            if note.verdict is None and note.stage is Stage.STARTED:
                with contextlib.suppress(FtlaunchError):
                    self._observed(note)  # the last moment at which a verdict can be had
            for app, job in self._account.apps():
                if job == note.job:
                    self._calls.end_app(app)
            control = self._account.control()
            with contextlib.suppress(FtlaunchError), translated():
                control.pop(note.job, None)
                control.pop(note.job + TAKEN, None)
        except MayStillBill:
            raise
        except FtlaunchError as error:
            raise MayStillBill(
                f"the end of {note.job} at Modal is not confirmed: {error.message}",
                hint=f"end it with: modal app stop {PREFIX}{note.job} (or at {DASHBOARD})",
            ) from error

    def _let_go(self, note: Note, keep: Keep) -> Files | None:
        note = self._records.get(note.job) or note
        door.forget_key(self._records, note.job)
        if keep is Keep.FILES and (note.kept or note.stage is not Stage.RELEASED):
            try:
                there = self._shelf.exists(note.job)
            except FtlaunchError:
                there = True
            if there:
                with contextlib.suppress(FtlaunchError):  # else others take it for forgotten
                    self._shelf.mark_kept(note.job)
            self._records.try_save(replace(note, stage=Stage.RELEASED, kept=there))
            return files_of(note.job) if there else None
        try:
            self._shelf.remove(note.job)
        except FtlaunchError as error:
            raise MayStillBill(
                f"the files of {note.job} are still at Modal: {error.message}", hint=_BY_HAND
            ) from error
        self._records.try_save(replace(note, stage=Stage.RELEASED, kept=False))
        return None

    # ── files ─────────────────────────────────────────────────────────────────────────────────

    def read(
        self, files: Files, path: PurePosixPath, *, offset: int, follow: bool
    ) -> Iterator[bytes]:
        """See `Backend.read`."""
        require_inside(path)
        return self._shelf.read(_job(files), path, offset=offset, follow=follow)

    def fetch(self, files: Files, paths: Sequence[PurePosixPath], into: Path) -> None:
        """See `Backend.fetch`; held to the digests of the job's manifest, where there is one."""
        job = _job(files)
        for path in paths:
            require_inside(path)
        promised = self._promised(job)
        for path in paths:
            self._shelf.fetch(job, path, into, sha256=promised.get(path))

    def _promised(self, job: str) -> dict[PurePosixPath, str]:
        try:
            manifest = rundir.parse_manifest(self._shelf.whole(job, rundir.MANIFEST))
        except Lost:
            return {}
        return {} if manifest is None else {file.path: file.sha256 for file in manifest.files}

    def listing(self, files: Files) -> Mapping[PurePosixPath, int]:
        """See `Backend.listing`."""
        return self._shelf.listing(_job(files))

    def discard(self, files: Files) -> None:
        """See `Backend.discard`. Raises Refused while the job still runs."""
        job = _job(files)
        with self._records.claim(job):
            note = self._note(job)
            if note is None:
                return
            if not self._observed(note).phase.ended:
                raise Refused(f"{job} still runs", hint="end it first: ftlaunch stop")
            self._end(note)
            self._let_go(note, Keep.NOTHING)

    def billed(self, lease: Lease) -> Money | None:
        """Modal's report, for accounts that have it. See `Backend.billed`."""
        try:
            amount = self._account.bill(lease.job, lease.created_at)
        except FtlaunchError:
            return None
        return None if amount is None else Money(amount)

    def clean(self) -> Sequence[Finding]:
        """See `Backend.clean`."""
        from backends.modal import checking

        return checking.clean(self._records)


_BY_HAND = f"try again, or end it at {DASHBOARD}"


def _job(files: Files) -> str:
    return files.data.get("job", files.id)


def _cost(note: Note, state: Mapping[str, Any] | None) -> Money:
    """List price times the seconds the runner has worked; waiting in the queue costs nothing."""
    seconds = (state or {}).get("elapsed_s")
    hours = Decimal(str(seconds if isinstance(seconds, int | float) else 0)) / 3600
    return Money(Decimal(note.price) * hours)


def _remembered(note: Note) -> Observation:
    verdict = note.verdict or {}
    return remembered(verdict, _cost(note, verdict["state"]))


def require_inside(path: PurePosixPath) -> None:
    """Raises Lost for a path that is no file of a run directory."""
    if path.is_absolute() or not path.parts or ".." in path.parts:
        raise Lost(f"{str(path)!r} is not inside the run directory")
