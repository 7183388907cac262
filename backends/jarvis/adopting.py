"""Machines that another computer of the same account has started, found by their names."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

from backends.errors import Unreachable
from backends.jarvis import catalog, keys, offers
from backends.jarvis.api import Account
from backends.jarvis.reach import Reach
from backends.jarvis.records import Box, Held, JobNote, Records, Stage
from backends.jarvis.rows import Row
from backends.jarvis.tags import is_ours, name_of
from backends.job import Files
from backends.lease import Lease
from backends.ssh.errors import Denied, SshError

_SOON = timedelta(seconds=60)


class Adopting:
    """Makes a record here for a machine that was made elsewhere."""

    def __init__(
        self,
        account: Account,
        records: Records,
        reach: Reach,
        home: Path,
        clock: Callable[[], datetime],
    ) -> None:
        self._account = account
        self._records = records
        self._reach = reach
        self._home = home
        self._clock = clock

    def strangers(self, rows: Sequence[Row]) -> list[Lease]:
        """The machines among these that may be ours, as leases; nothing is changed."""
        now = self._clock()
        return [
            Lease(
                backend=offers.NAME,
                id=f"{row.id}.{row.name}",
                job=row.name,
                files=Files(offers.NAME, row.name, {"job": row.name}),
                created_at=now,
                data={"machine": str(row.id), "name": row.name},
            )
            for row in rows
            if is_ours(row.name)
        ]

    def take(self, lease: Lease) -> Box | None:
        """The record of a lease's machine, made now; None when the account has no such machine."""
        return self._take(lease.job, lease.id)

    def take_name(self, job: str) -> Box | None:
        """The same for who wants its files. Raises Unreachable while it is being started."""
        return self._take(job, "", files=True)

    def _take(self, job: str, lease: str, *, files: bool = False) -> Box | None:
        name = name_of(job)
        with self._records.claim(f"{job}.take"):
            if (known := self._records.of_job(job)) is not None:
                return known  # another process of this computer was quicker
            here = {box.machine for box in self._records.all() if box.held is not Held.GONE}
            rows = [row for row in self._account.machines() if row.name == name and not row.ending]
            # A machine bears its youngest job's name: ours may, of a launch that failed.
            rows = [row for row in rows if row.id not in here]
            if not rows:
                return None
            row = rows[-1]
            if files and not (row.running or row.paused):
                raise Unreachable(
                    f"the machine {name!r} does not run yet ({row.status.lower()})",
                    hint="look again in some minutes",
                )
            box = self._box(row, job, lease)
            if row.running:
                return self._records.save(self._opened(box))
            with self._records.claim(keys.CLAIM):
                if row.paused:  # it takes the keys that the account has when it is woken
                    secret = keys.ready(self._account, self._records.root / "key", self._home)
                    box = replace(box, secret=str(secret))
                return self._records.save(box)

    def _box(self, row: Row, job: str, lease: str) -> Box:
        now = self._clock().isoformat()
        kind = offers.CPU if row.cpu_vm else offers.VM if row.vm else offers.CONTAINER
        price, currency = self._price(row)
        where = "" if row.ssh is None else f"{row.ssh.user}@{row.ssh.host}:{row.ssh.port}"
        return Box(
            key=os.urandom(6).hex(),
            name=row.name,
            kind=kind,
            region=row.region,
            template=row.template,
            disk_gib=row.disk_gib,
            created_at=now,
            gpu=row.gpu,
            count=row.count,
            spot=row.spot,
            price=str(price),
            currency=currency,
            machine=row.id,
            held=Held.RUNNING if row.running else Held.PAUSED if row.paused else Held.CREATING,
            since=now if row.running else None,
            # What it had cost before this computer looked: the provider's own figure.
            spent=str(row.cost or 0),
            ssh=where,
            jobs={job: JobNote(lease or f"{row.id}.{job}", now, stage=Stage.STARTED)},
        )

    def _price(self, row: Row) -> tuple[Decimal, str]:
        for gpu in catalog.GPUS:
            if row.gpu and gpu.region == row.region and offers.same_gpu(row.gpu, gpu.gpu):
                price = gpu.spot_price if row.spot else gpu.price
                return Decimal(str(price or 0)) * row.count, "USD"
        return Decimal(0), "USD"

    def _opened(self, box: Box) -> Box:
        """The same with the key that the machine accepts."""
        refused: SshError | None = None
        for secret in keys.known(self._records.root / "key", self._home):
            tried = replace(box, secret=str(secret))
            try:
                self._reach.host(tried).run(["true"], timeout=_SOON)
            except Denied as error:
                refused = error
                self._reach.forget(tried)
                continue
            except SshError as error:
                raise Unreachable(f"{box.name} does not answer: {error.message}") from error
            return tried
        raise Unreachable(
            f"the machine {box.name!r} accepts no SSH key of this computer",
            hint="a machine takes its keys when it boots: finish it where it was started, or once "
            f"its job is over: jl pause {box.machine} --yes, then: ftlaunch ps --adopt",
        ) from refused
