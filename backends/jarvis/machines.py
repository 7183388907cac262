"""Machines made, woken, paused and destroyed so that none is forgotten.

The provider has no tags, its replies get lost, and its "yes" means "taken in". So every change
follows one rule: the record says what is about to happen, then the provider is asked, and whatever
it answers, what counts is what the list of machines shows afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from backends.errors import (
    FtlaunchError,
    MayStillBill,
    NoCapacity,
    NotLaunched,
    Unreachable,
    Unsure,
)
from backends.jarvis.api import DASHBOARD, Account, Ask
from backends.jarvis.pace import Pace
from backends.jarvis.records import Box, Held, Records
from backends.jarvis.rows import Row
from backends.protocol import Progress


class Machines:
    """What may be done with machines. Each method may be repeated after a crash in it."""

    def __init__(
        self, account: Account, records: Records, pace: Pace, clock: Callable[[], datetime]
    ) -> None:
        self._account = account
        self._records = records
        self.pace = pace
        self._clock = clock

    # ── finding ───────────────────────────────────────────────────────────────────────────────

    def search(self, name: str, *, ending: bool = False) -> Row | None:
        """The machine of that name; None once it is sure that there is none.

        ending  also one whose end was accepted, and which may bill until it is there
        A machine that was just made may be missing from the list for a while.
        Raises Unreachable when the provider does not say.
        """
        doubt: Unreachable | None = None
        for _ in self.pace.ticks(self.pace.lag):
            try:
                found = [row for row in self._account.machines() if row.name == name]
            except Unreachable as error:
                doubt = error
                continue
            doubt = None
            if found := [row for row in found if _stands(row, ending)]:
                return _newest(found)
        if doubt is not None:
            raise doubt
        return None

    def look(self, box: Box, *, ending: bool = False) -> Row | None:
        """The machine of a record now; None when the list does not have it.

        ending  as for `search`
        Raises Unreachable when the provider does not say: unknown is not gone.
        """
        rows = self._account.machines()
        mine = [row for row in rows if row.id == box.machine]
        mine += [row for row in rows if row.name == box.name and row.id != box.machine]
        return next((row for row in mine if _stands(row, ending)), None)

    def young(self, box: Box) -> bool:
        """Made or woken so short a time ago that the list may not have it yet."""
        began = datetime.fromisoformat(box.since or box.created_at)
        return self._clock() - began < self.pace.lag * 2

    def look_well(self, box: Box, *, ending: bool = False) -> Row | None:
        """The same; None once it is sure: one that was just woken may be missing for a while."""
        for _ in self.pace.ticks(self.pace.lag):
            if (row := self.look(box, ending=ending)) is not None:
                return row
        return None

    # ── making ────────────────────────────────────────────────────────────────────────────────

    def create(self, box: Box, ask: Ask) -> Box:
        """Ask for a machine; the record with its id, once it has one.

        Raises NotLaunched when it is sure that none was made, Unsure when it is not, and what the
        user did (Ctrl-C), after what was made is gone again.
        """
        self._records.save(box)
        try:
            return self._adopted(box, self._account.create(ask))
        except BaseException as error:
            found = self._after(box, error)
            if isinstance(error, FtlaunchError):
                return self._adopted(box, found.id)
            self._records.forget(self.destroy(self._adopted(box, found.id)))
            raise

    def _after(self, box: Box, error: BaseException) -> Row:
        """What a create that failed has left: a machine, or the error once there is none."""
        said_no = isinstance(error, FtlaunchError) and not isinstance(error, Unreachable)
        if said_no or not self._account.asked:
            self._records.forget(box)
            raise error
        try:
            found = self.search(box.name)
        except Unreachable as doubt:
            raise self.unsure(box, doubt.message) from error
        if found is None:
            self._records.forget(box)
            raise error
        return found

    def _adopted(self, box: Box, machine: int) -> Box:
        now = self._clock().isoformat()
        return self._records.save(replace(box, machine=machine, since=box.since or now))

    def unsure(self, box: Box, why: str) -> Unsure:
        """The error for a machine of which nobody knows whether it is there."""
        return Unsure(
            f"whether a machine named {box.name!r} bills is not known: {why}",
            intent=box.name,
            hint=f"{_LOOK_FOR}; ftlaunch looks again at the next: ftlaunch ps",
        )

    def await_running(self, box: Box, told: Progress) -> Box:
        """Until the machine is up and says how it is reached.

        Raises NotLaunched when it fails, is taken away, or does not come up in time.
        """
        keyless = 0
        for _ in self.pace.ticks(self.pace.boot):
            told(f"waiting for {box.name} to start")
            try:
                row = self._account.machine(box.machine or 0)
                why = None if row is not None and row.running else self._failure(box, row)
            except Unreachable:
                continue
            if why is not None:
                raise NotLaunched(f"the machine did not come up: {why}")
            if row is None:
                continue
            if row.ssh is not None:
                where = f"{row.ssh.user}@{row.ssh.host}:{row.ssh.port}"
                return self._records.save(replace(box, held=Held.RUNNING, ssh=where))
            if row.paused:
                raise NoCapacity("the machine was taken away while it started")
            keyless += row.running
            if keyless > _KEYLESS:
                raise NotLaunched(
                    "the machine runs, and Jarvis Labs does not say how to reach it",
                    hint="see the account's SSH keys with: jl ssh-key list",
                )
        raise NotLaunched(
            f"the machine did not start in {_minutes(self.pace.boot)}",
            hint="try another kind with -g, or another region",
        )

    def _failure(self, box: Box, row: Row | None) -> str | None:
        if row is not None and row.failed:
            return self._account.failure(row) or "no reason given"
        known = row or Row(id=box.machine or 0, name=box.name, status="", region=box.region)
        return self._account.failure(known)

    # ── ending ────────────────────────────────────────────────────────────────────────────────

    def destroy(self, box: Box) -> Box:
        """Until the list no longer has it. Raises MayStillBill when that cannot be had."""
        return _insisting(lambda: self._destroyed(box))

    def _destroyed(self, box: Box) -> Box:
        spent = str(box.cost(self._clock()))
        young = self.young(box)
        box = self._records.try_save(replace(box, held=Held.ENDING, spent=spent, since=None))
        last = "it still runs"
        for _ in self.pace.ticks(self.pace.end):
            try:
                if young or box.machine is None:
                    row = self.search(box.name, ending=True)
                else:
                    row = self.look(box, ending=True)
                if row is None:
                    return self._records.try_save(replace(box, held=Held.GONE, machine=None))
                if row.ending:
                    last = "its end was accepted, and is not there yet"
                else:
                    self._account.destroy(row)
                young = False
            except FtlaunchError as error:
                last = error.message
        raise MayStillBill(
            f"the machine {box.name!r} is not destroyed: {last}",
            hint=_by_hand(box, "destroy"),
        )

    def pause(self, box: Box) -> Box:
        """Until the provider says that it is paused. Raises MayStillBill otherwise.

        One that did not come up stays as it is: it runs nothing, and its disk may hold files.
        """
        return _insisting(lambda: self._paused(box))

    def _paused(self, box: Box) -> Box:
        box = self._records.try_save(
            replace(box, held=Held.PAUSING, spent=str(box.cost(self._clock())), since=None)
        )
        last = "it still runs"
        for _ in self.pace.ticks(self.pace.end):
            try:
                row = self.look_well(box)
                if row is None:
                    return self._records.try_save(replace(box, held=Held.GONE, machine=None))
                if row.paused or row.failed:
                    return self._records.try_save(replace(box, held=Held.PAUSED, machine=row.id))
                if row.running:
                    self._account.pause(row)
            except FtlaunchError as error:
                last = error.message
        raise MayStillBill(
            f"the machine {box.name!r} is not paused: {last}", hint=_by_hand(box, "pause")
        )

    # ── waking ────────────────────────────────────────────────────────────────────────────────

    def resume(self, box: Box, row: Row, *, name: str, gpu: str | None = None) -> Box:
        """Wake a paused machine under a name; the record with its new id.

        Raises NoCapacity or NotLaunched when it stays paused, Unsure when nobody knows.
        """
        now = self._clock().isoformat()
        waking = self._records.save(replace(box, held=Held.RESUMING, name=name, machine=row.id))
        try:
            spot = box.spot and gpu is None
            machine = self._account.resume(row, name=name, gpu=gpu, spot=spot)
        except BaseException as error:
            machine_now = self._resumed(waking, error)
            if machine_now is None:
                self._records.save(replace(waking, held=Held.PAUSED, name=box.name))
                raise
            machine = machine_now
            if not isinstance(error, FtlaunchError):
                self.pause(replace(waking, machine=machine, since=now))
                raise
        return self._records.save(replace(waking, machine=machine, since=now))

    def _resumed(self, box: Box, error: BaseException) -> int | None:
        """The id a machine woke up with although the call failed; None when it still sleeps."""
        if not self._account.asked:
            return None
        try:
            for _ in self.pace.ticks(self.pace.lag):
                rows = self._account.machines()
                awake = [r for r in rows if r.name == box.name and not r.paused and not r.ending]
                if awake:
                    return _newest(awake).id
                if isinstance(error, FtlaunchError) and not isinstance(error, Unreachable):
                    break
        except Unreachable as doubt:
            raise self.unsure(box, doubt.message) from error
        return None

    def rename(self, box: Box, name: str) -> Box:
        """Give a running machine another name: the tag it is found by from elsewhere.

        Its id is known, so nothing is lost when the provider does not do it.
        """
        if name == box.name or box.machine is None:
            return box
        try:
            self._account.rename(box.machine, name)
        except FtlaunchError:
            return box
        return self._records.save(replace(box, name=name))


def _insisting(work: Callable[[], Box]) -> Box:
    """Do it in spite of one Ctrl-C, which is heard afterwards: what bills comes first."""
    try:
        return work()
    except KeyboardInterrupt:
        work()
        raise


def _newest(rows: Sequence[Row]) -> Row:
    """Of several with one name: ids only grow, so an odd row that names none of today's loses."""
    return max(rows, key=lambda row: row.id)


def _stands(row: Row, ending: bool) -> bool:
    return not row.ended if ending else not row.ending


_KEYLESS = 6
"""Looks at a running machine that does not say how it is reached, before it is given up."""


def _minutes(patience: timedelta) -> str:
    return f"{max(1, round(patience.total_seconds() / 60))} minutes"


_LOOK_FOR = f"look for it with: jl list (or at {DASHBOARD})"


def _by_hand(box: Box, what: str) -> str:
    if box.machine is None:
        return _LOOK_FOR
    return f"end it yourself with: jl {what} {box.machine} --yes (or at {DASHBOARD})"
