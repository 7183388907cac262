"""The end of a machine: paused while files on it are wanted, destroyed when none is."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from backends.errors import FtlaunchError, Lost, MayStillBill, Unreachable
from backends.jarvis.api import DASHBOARD, Account
from backends.jarvis.kept import Kept
from backends.jarvis.machines import Machines
from backends.jarvis.reach import Reach, reachable
from backends.jarvis.records import Box, Held, Records, Stage
from backends.jarvis.rows import Row
from backends.lease import Keep
from backends.ssh import watch
from backends.ssh.programs import FarError
from backends.ssh.workplace import Workplace

_WATCH_FIRST = timedelta(minutes=2)
"""The least a machine waits before it lets go of itself: somebody may be on the way to it."""


class LettingGo:
    """What ends a machine, from here and, if it was asked for, from the machine itself."""

    def __init__(
        self,
        account: Account,
        records: Records,
        machines: Machines,
        reach: Reach,
        kept: Kept,
        *,
        clock: Callable[[], datetime],
    ) -> None:
        self._account = account
        self._records = records
        self._machines = machines
        self._reach = reach
        self._kept = kept
        self._clock = clock

    def watch(self, box: Box, place: Workplace, linger: timedelta | None) -> None:
        """Let the machine pause itself when its jobs are over and nobody comes.

        This is the one thing that puts the account's key on a machine: in a file that only its
        owner reads, never in an argument or an environment. Without `linger` nothing is put there.
        """
        if linger is None or box.machine is None:
            return
        row = Row(
            id=box.machine,
            name=box.name,
            status="",
            region=box.region,
            template=box.template,
            gpu=box.gpu or "CPU",
        )
        method, url = self._account.pause_request(row)
        headers = f"Authorization: Bearer {self._account.key}\n".encode()
        watch.install(
            place,
            watch.Request(method=method, url=url),
            secret_headers=headers,
            idle=max(linger, _WATCH_FIRST / self._machines.pace.factor),
        )

    def release(self, box: Box, job: str, keep: Keep) -> Box:
        """End a job's hold on its machine. The caller holds the claims of both.

        Raises MayStillBill when what bills does not stop.
        """
        try:
            gone = box.held is Held.GONE
            row = None if gone else self._machines.look_well(box, ending=True)
        except FtlaunchError as error:
            raise MayStillBill(
                f"Jarvis Labs does not say how the machine {box.name!r} stands: {error.message}",
                hint=f"try again, or end it at {DASHBOARD}",
            ) from error
        if row is None:
            return self._without_machine(box, job)
        if row.id != box.machine:
            box = self._records.try_save(replace(box, machine=row.id))
        # An adopted machine that sleeps says no address either, and is full of results.
        nobody_was_on_it = not box.ssh and box.jobs[job].stage is Stage.LAYING
        if row.running and box.held is not Held.RUNNING:
            box = self._reach.running(box, row)  # somebody woke it outside ftlaunch
        others: list[str] = []
        if nobody_was_on_it:
            keep = Keep.NOTHING
        elif row.running:
            box, keep, others = self._end_job(box, job, keep)
        box = self._records.try_save(box.noted(job, stage=Stage.RELEASED, kept=keep is Keep.FILES))
        if keep is Keep.NOTHING:
            self._kept.forget(job)
        return self._left_to(others, box) if others else self.settle(box)

    def _left_to(self, others: list[str], box: Box) -> Box:
        """Another computer finishes the run on this machine: it lets go of it, too.

        Raises MayStillBill where something of ours is to be kept on it: it may be destroyed there.
        """
        if box.open_jobs():
            return box
        if box.kept_jobs():
            raise MayStillBill(
                f"the machine {box.name!r} runs {others[0]} for another computer: it is not paused",
                hint="when that is over, try again; or end it now at " + DASHBOARD,
            )
        return self._records.try_save(replace(box, held=Held.GONE, machine=None))

    def _without_machine(self, box: Box, job: str) -> Box:
        """Somebody else destroyed the machine: there is nothing to end and nothing to keep."""
        self._kept.forget(job)
        spent = str(box.cost(self._clock()))
        box = replace(box, held=Held.GONE, machine=None, spent=spent, since=None)
        return self._records.try_save(box.noted(job, stage=Stage.RELEASED, kept=False))

    def _end_job(self, box: Box, job: str, keep: Keep) -> tuple[Box, Keep, list[str]]:
        """What must be done on the machine while it still runs; as much of it as can be.

        Also what is to be kept: nothing, of a job whose launch never came as far as its folder. And
        the jobs on it that are not ours, and run, or are being laid out.
        """
        others: list[str] = []
        try:
            with reachable(box):
                place = self._reach.workplace(box)
                place.end(job)
                with contextlib.suppress(FarError):
                    runs = place.jobs().items()
                    others = [name for name, run in runs if run.works and name not in box.jobs]
                if keep is Keep.FILES:
                    self._kept.take(job, place)
                elif len(box.jobs) > 1:
                    place.remove(job)
        except Unreachable:
            # The disk keeps what is on it, and what runs dies with the pause or the end.
            pass
        except Lost:
            if box.jobs[job].stage is Stage.LAYING:
                keep = Keep.NOTHING
        return self._records.box(box.key) or box, keep, others

    def settle(self, box: Box) -> Box:
        """Leave a machine as its jobs need it: running, paused or destroyed."""
        if box.held is Held.GONE or box.open_jobs():
            return box
        if box.kept_jobs():
            return box if box.held is Held.PAUSED else self._machines.pause(box)
        box = self._machines.destroy(box)
        for job in box.jobs:
            self._kept.forget(job)
        with contextlib.suppress(OSError):
            (self._records.root / "hosts" / str(box.machine)).unlink(missing_ok=True)
        return box
