"""From a machine's record to its workplace: by ssh, awake for as long as it is needed."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path, PurePosixPath

from backends.errors import Lost, NoCapacity, NotLaunched, Unreachable
from backends.jarvis.api import DASHBOARD, Account
from backends.jarvis.machines import Machines
from backends.jarvis.offers import CONTAINER
from backends.jarvis.pace import Pace
from backends.jarvis.records import Box, Held, Records, Stage
from backends.jarvis.rows import Row
from backends.protocol import Progress, silent
from backends.ssh.errors import SshError
from backends.ssh.host import Host, Target
from backends.ssh.workplace import Workplace

FILESYSTEM = PurePosixPath("/home/jl_fs")
"""Where a container sees the shared disk that is attached to it."""

_FOLDER = "ftlaunch"


class Reach:
    """The workplaces of one process's machines."""

    def __init__(self, account: Account, records: Records, machines: Machines, pace: Pace) -> None:
        self._account = account
        self._records = records
        self._machines = machines
        self._pace = pace
        self._hosts: dict[int, Host] = {}
        self._folder: Path | None = None

    def close(self) -> None:
        """End every connection."""
        for host in self._hosts.values():
            host.close()
        self._hosts.clear()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def forget(self, box: Box) -> None:
        """Let go of the connection to a machine."""
        if box.machine is not None and (known := self._hosts.pop(box.machine, None)) is not None:
            known.close()

    def host(self, box: Box) -> Host:
        """The connection to a machine that runs, made on first use.

        Raises Lost when it has no address: it does not run.
        """
        if box.machine is None or not box.ssh:
            raise Lost(f"the machine {box.name!r} does not run")
        known = self._hosts.get(box.machine)
        if known is None:
            user, _, rest = box.ssh.partition("@")
            name, _, port = rest.rpartition(":")
            keys = self._records.root / "hosts"
            keys.mkdir(mode=0o700, parents=True, exist_ok=True)
            known = Host(
                Target(user=user, host=name, port=int(port)),
                key=Path(box.secret),
                # Ports are shared by machines that come and go: each has a file of its own.
                known_hosts=keys / str(box.machine),
                folder=self._sockets(),
            )
            self._hosts[box.machine] = known
        return known

    def workplace(self, box: Box) -> Workplace:
        """Where jobs lie on a machine that runs."""
        host = self.host(box)
        home = PurePosixPath("/home")
        if box.kind != CONTAINER:
            home /= box.ssh.partition("@")[0]
        shared = FILESYSTEM / _FOLDER if box.filesystem is not None else None
        by = self._records.computer()
        return Workplace(host, home / _FOLDER, cache_root=shared, by=by)

    def ready(self, box: Box, told: Progress) -> Box:
        """Until a machine that was made or woken runs and takes commands.

        Raises NotLaunched when it does not.
        """
        box = self._machines.await_running(box, told)
        try:
            self.host(box).wait(self._pace.ssh, told=told)
        except SshError as error:
            raise NotLaunched(
                f"the machine {box.name!r} runs and cannot be reached: {error.message}",
                hint=error.hint or "see the account's SSH keys with: jl ssh-key list",
            ) from error
        return box

    @contextlib.contextmanager
    def awake(self, box: Box) -> Iterator[Workplace]:
        """The workplace of a machine; one that is paused is woken for as long as this is entered.

        One that runs and that no job needs was woken by somebody who died: it sleeps again, too.
        Raises Lost when the machine is gone, Unreachable when it cannot be reached now.
        """
        if box.used:
            with reachable(box):
                yield self.workplace(box)
            return
        _require_made(box)
        with self._records.claim(box.key):
            box = self._records.box(box.key) or box
            _require_made(box)
            borrowed = not box.used
            slept = box.held in {Held.PAUSED, Held.PAUSING}
            if box.held is not Held.RUNNING:
                box = self.wake(box, name=box.name)
            try:
                with reachable(box):
                    yield self.workplace(box)
            except Lost:
                # What somebody came for is not there: nobody stays.
                if slept:
                    self._machines.pause(self._records.box(box.key) or box)
                raise
            finally:
                box = self._records.box(box.key) or box
                if borrowed and box.held is not Held.PAUSED and not box.awaited_jobs():
                    self._machines.pause(box)

    def wake(
        self, box: Box, *, name: str, told: Progress = silent, most: Decimal | None = None
    ) -> Box:
        """Make a paused machine run again, under a name. The caller holds its claim.

        Takes the GPU it had, else the cheapest that is free in its region: there may be nothing
        to do but to fetch. A job is to cost no more than was agreed to: `most` an hour.
        Raises Lost when it is gone, NoCapacity when nothing is free.
        """
        row = self._machines.look(box)
        if row is None:
            self._records.save(replace(box, held=Held.GONE, machine=None))
            raise Lost(f"the machine {box.name!r} is gone: it was destroyed outside ftlaunch")
        if row.failed:
            raise NotLaunched(
                f"the machine {box.name!r} did not come up when it was last woken",
                hint=f"look at it at {DASHBOARD}; its files are there for as long as it is",
            )
        if box.held is Held.PAUSING and not row.running:
            box = self._machines.pause(box)  # whoever asked for it did not see its end
            row = self._machines.look(box) or row
        if not row.paused:
            return self.ready(self.running(box, row), told)
        told(f"waking {box.name}")
        try:
            woken = self._machines.resume(box, row, name=name)
        except NoCapacity as error:
            woken = self._elsewhere(box, row, name, error, most)
        try:
            return self.ready(woken, told)
        except BaseException:  # Ctrl-C too: nobody else would know that it runs
            self._machines.pause(self._records.box(box.key) or woken)
            raise

    def running(self, box: Box, row: Row) -> Box:
        """A machine that runs although its record says otherwise: somebody woke it."""
        since = box.since or datetime.now(UTC).isoformat()
        where = "" if row.ssh is None else f"{row.ssh.user}@{row.ssh.host}:{row.ssh.port}"
        return self._records.save(
            replace(box, machine=row.id, since=since, held=Held.RUNNING, ssh=where or box.ssh)
        )

    def _elsewhere(
        self, box: Box, row: Row, name: str, error: NoCapacity, most: Decimal | None
    ) -> Box:
        """On another kind of GPU, the cheapest that is free, for `most` an hour."""
        gpus, _ = self._account.catalogue()
        kinds = {box.kind, None}
        fitting = [g for g in gpus if g.region == box.region and g.kind in kinds and g.price]
        free = sorted((g for g in fitting if g.free >= box.count), key=lambda g: g.price or 0)
        for gpu in free:
            price = Decimal(str(gpu.price)) * box.count
            if gpu.gpu != box.gpu and (most is None or price <= most):
                woken = self._machines.resume(box, row, name=name, gpu=gpu.gpu)
                return self._records.save(replace(woken, gpu=gpu.gpu, price=str(price), spot=False))
        raise error

    def _sockets(self) -> Path:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="ftl-"))
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        return self._folder


def _require_made(box: Box) -> None:
    """Raises Lost while a machine is being made: who makes it needs it awake, and nobody else.

    The provider may not even list it yet, which would look like its end.
    """
    laying = all(note.stage is Stage.LAYING for note in box.jobs.values())
    if box.held is Held.CREATING and laying:
        raise Lost(f"nothing is on the machine {box.name!r} yet: it is being made")


@contextlib.contextmanager
def reachable(box: Box) -> Iterator[None]:
    """What ssh raises becomes Unreachable: the machine is there, and does not answer."""
    try:
        yield
    except SshError as error:
        raise Unreachable(
            f"the machine {box.name!r} does not answer: {error.message}",
            hint=error.hint or "try again; it still bills until it is released",
        ) from error
