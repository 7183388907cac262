"""A launch, step by step; whatever goes wrong, no machine is left that nobody knows of."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path

from backends import plan
from backends.errors import FtlaunchError, MayStillBill, NotLaunched, Refused, Unsure
from backends.jarvis import catalog, keys, offers
from backends.jarvis.api import Account, Ask
from backends.jarvis.letting_go import LettingGo
from backends.jarvis.machines import Machines
from backends.jarvis.reach import Reach, reachable
from backends.jarvis.records import Box, Held, JobNote, Records, Stage
from backends.jarvis.tags import name_of
from backends.job import Attached, Files, Job
from backends.lease import Lease
from backends.offer import Money, Offer
from backends.protocol import Progress
from backends.ssh.surroundings import plan_software

_GIB = 1024**3
_ENVIRONMENT_GIB = 30
"""Room for an installed environment, its downloads and the job's output, beside what is sent."""


class Launching:
    """What a launch needs of the backend's parts."""

    def __init__(
        self,
        account: Account,
        records: Records,
        machines: Machines,
        reach: Reach,
        letting_go: LettingGo,
        *,
        home: Path,
        clock: Callable[[], datetime],
    ) -> None:
        self._account = account
        self._records = records
        self._machines = machines
        self._reach = reach
        self._letting_go = letting_go
        self._home = home
        self._clock = clock

    def launch(
        self, job: Job, offer: Offer, on_lease: Callable[[Lease], None], told: Progress
    ) -> Lease:
        """See `Backend.launch`. The caller holds the claim on the job's name."""
        known = self._records.of_job(job.name)
        if known is not None:
            require_same(known, job)
            if known.jobs[job.name].stage is Stage.STARTED:
                found = lease_of(known, job.name)
                on_lease(found)
                return found
        attached = self._attached_box(job)
        if attached is not None and (known is None or known.key == attached.key):
            return self._beside(attached, job, on_lease, told)
        box = self._new(job, offer, told) if known is None else self._again(known, job, offer)
        return self._on_new(box, job, on_lease, told)

    # ── on a machine of its own ───────────────────────────────────────────────────────────────

    def _new(self, job: Job, offer: Offer, told: Progress) -> Box:
        told("asking Jarvis Labs for a machine")
        name = name_of(job.name)
        if any(row.name == name and not row.ending for row in self._account.machines()):
            raise NotLaunched(
                f"the account has a machine named {name!r} already",
                hint="take it over with: ftlaunch ps --adopt, or give this job another name",
            )
        filesystem = self._filesystem(offer)
        with self._records.claim(keys.CLAIM):
            secret = keys.ready(self._account, self._records.root / "key", self._home)
            box = self._records.save(
                _box(
                    job,
                    offer,
                    name=name,
                    secret=secret,
                    now=self._clock(),
                    filesystem=filesystem,
                )
            )
        return self._machines.create(box, _ask(box, offer))

    def _filesystem(self, offer: Offer) -> int | None:
        """The user's shared disk for caches, where the region has one and a container sees it."""
        if offer.data.get("kind") != offers.CONTAINER:
            return None
        for number, (name, region) in self._account.filesystems().items():
            if name.lower().startswith("ftlaunch") and region == offer.data.get("region"):
                return number
        return None

    def _again(self, box: Box, job: Job, offer: Offer) -> Box:
        """The machine of a launch that was cut short: found by its name, or made now."""
        with self._records.claim(box.key):
            if box.held in {Held.ENDING, Held.GONE}:
                # It was being undone when that was cut short.
                self._machines.destroy(box)
                box = replace(box, held=Held.CREATING, machine=None, since=None, ssh="")
                return self._machines.create(box, _ask(box, offer))
            if box.held is Held.CREATING and box.machine is None:
                row = self._machines.search(box.name)
                if row is None:
                    return self._machines.create(box, _ask(box, offer))
                return self._records.save(
                    replace(box, machine=row.id, since=self._clock().isoformat())
                )
            if box.held in {Held.PAUSED, Held.PAUSING, Held.RESUMING}:
                return self._reach.wake(box, name=name_of(job.name), most=Decimal(box.price))
        return box

    def _on_new(
        self, box: Box, job: Job, on_lease: Callable[[Lease], None], told: Progress
    ) -> Lease:
        found = lease_of(box, job.name)
        try:
            on_lease(found)
            box = self._reach.ready(box, told)
            return self._start(box, job, told)
        except BaseException as error:
            raise self._undone(box, job, found, error) from error

    # ── on the machine that has what it builds on ─────────────────────────────────────────────

    def _attached_box(self, job: Job) -> Box | None:
        """The machine that holds the earlier jobs' files; None when nothing is attached."""
        boxes: dict[str, Box] = {}
        for item in job.inputs:
            if not isinstance(item, Attached):
                continue
            box = self._records.of_job(item.files.data.get("job", item.files.id))
            if box is None or box.held is Held.GONE:
                raise Refused(
                    f"the files of the earlier job {item.files.id!r} are no longer at Jarvis Labs",
                    hint="run the earlier job again",
                )
            boxes[box.key] = box
        if len(boxes) > 1:
            raise Refused(
                "the job builds on files that lie on two machines",
                hint="run the earlier jobs on one machine",
            )
        return next(iter(boxes.values()), None)

    def _beside(
        self, box: Box, job: Job, on_lease: Callable[[Lease], None], told: Progress
    ) -> Lease:
        """Launch on a machine that is there already, awake or not."""
        with self._records.claim(box.key):
            box = self._records.box(box.key) or box
            asleep = box.held is not Held.RUNNING
            note = _note(job, box, self._clock())
            box = self._records.save(replace(box, jobs={**box.jobs, job.name: note}))
            found = lease_of(box, job.name)
            try:
                on_lease(found)
                if asleep:
                    most = Decimal(box.price)
                    box = self._reach.wake(box, name=name_of(job.name), told=told, most=most)
                else:
                    box = self._machines.rename(box, name_of(job.name))
                return self._start(box, job, told)
            except BaseException as error:
                raise self._undone_beside(box, job, found, error) from error

    # ── the same for both ─────────────────────────────────────────────────────────────────────

    def _start(self, box: Box, job: Job, told: Progress) -> Lease:
        place = self._reach.workplace(box)
        with reachable(box):
            told("looking at the machine")
            software = plan_software(place, job, offers.NAME)
            # Before the upload: this computer may sleep in the middle of it.
            self._letting_go.watch(box, place, job.self_release)
            place.lay(software.job, told=told)
            told("starting the job")
            place.start(software.job, {})
        box = self._records.box(box.key) or box
        self._records.save(box.noted(job.name, stage=Stage.STARTED))
        return lease_of(box, job.name)

    def _undone(self, box: Box, job: Job, found: Lease, error: BaseException) -> BaseException:
        """Leave nothing of a launch that failed; what is to be raised."""
        box = self._records.box(box.key) or box
        try:
            box = self._machines.destroy(box)
        except MayStillBill as doubt:
            told = f"the launch failed, and {doubt.message}"
            return Unsure(told, intent=job.name, lease=found, hint=doubt.hint)
        self._records.forget(box)
        return _as_launch_error(error, self._billed(box, job))

    def _undone_beside(
        self, box: Box, job: Job, found: Lease, error: BaseException
    ) -> BaseException:
        """Leave the machine as it was before a launch on it failed."""
        box = self._records.box(box.key) or box
        try:
            if box.held is Held.RUNNING:
                with reachable(box):
                    self._reach.workplace(box).undo(job.name)
        except FtlaunchError:
            pass  # what it left on the machine goes with the machine
        billed = self._billed(box, job)
        box = self._records.save(box.without(job.name))
        try:
            self._letting_go.settle(box)
        except MayStillBill as doubt:
            told = f"the launch failed, and {doubt.message}"
            return Unsure(told, intent=job.name, lease=found, hint=doubt.hint)
        return _as_launch_error(error, billed)

    def _billed(self, box: Box, job: Job) -> Money:
        """What a machine has cost since the job came to it."""
        spent = box.cost(self._clock()) - Decimal(box.jobs[job.name].before)
        return Money(max(spent, Decimal(0)), box.currency)


def _as_launch_error(error: BaseException, billed: Money) -> BaseException:
    if not isinstance(error, Exception):
        return error
    if isinstance(error, (NotLaunched, Refused, Unsure)):
        told: FtlaunchError = error
    elif isinstance(error, FtlaunchError):
        told = NotLaunched(error.message, hint=error.hint)
    else:
        told = NotLaunched(f"the launch failed: {error}", hint="nothing was left behind")
    told.billed = billed
    return told


def require_same(box: Box, job: Job) -> None:
    """Raises NotLaunched when another job has, or had, this name."""
    note = box.jobs[job.name]
    if note.stage is Stage.RELEASED or note.request != request_of(job):
        raise NotLaunched(
            f"another job named {job.name!r} left its files at Jarvis Labs",
            hint="give this one another name, or remove the other",
        )


def request_of(job: Job) -> str:
    """A digest of what the job does, without its deadline: a repeated launch has a shorter one."""
    document = plan.document(job.plan, job=job.name, outputs=job.outputs, deadline=None)
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def lease_of(box: Box, job: str) -> Lease:
    """A job's lease, the same whenever it is asked for."""
    note = box.jobs[job]
    return Lease(
        backend=offers.NAME,
        id=note.lease,
        job=job,
        files=files_of(job),
        created_at=datetime.fromisoformat(note.created_at),
        data={"box": box.key, "name": name_of(job)},
    )


def files_of(job: str) -> Files:
    """A job's run directory, wherever its machine is."""
    return Files(backend=offers.NAME, id=job, data={"job": job})


def _note(job: Job, box: Box | None, now: datetime) -> JobNote:
    linger = None if job.self_release is None else job.self_release.total_seconds()
    token = "" if box is None or box.machine is None else f"{box.machine}."
    return JobNote(
        lease=f"{token}{job.name}.{os.urandom(3).hex()}",
        created_at=now.isoformat(),
        request=request_of(job),
        before="0" if box is None else str(box.cost(now)),
        linger=linger,
        links=[
            *(str(item.at) for item in job.inputs if isinstance(item, Attached)),
            *(str(cache.at) for cache in job.caches),
        ],
    )


def _box(
    job: Job, offer: Offer, *, name: str, secret: Path, now: datetime, filesystem: int | None
) -> Box:
    kind = offer.data["kind"]
    template = job.environment.hints.get(offers.NAME, {}).get("template", "pytorch")
    dollars = offer.price.currency == "USD"
    disk = _disk_gib(job, offer)
    return Box(
        key=os.urandom(6).hex(),
        name=name,
        kind=kind,
        region=offer.data["region"],
        template=template if kind == offers.CONTAINER else "vm",
        disk_gib=disk,
        created_at=now.isoformat(),
        gpu=offer.gpu,
        count=offer.count,
        spot=offer.spot,
        price=str(offer.price.amount),
        disk_price=str(Decimal(catalog.DISK_PER_GIB_HOUR) * disk) if dollars else "0",
        currency=offer.price.currency,
        secret=str(secret),
        filesystem=filesystem,
        jobs={job.name: _note(job, None, now)},
    )


def _disk_gib(job: Job, offer: Offer) -> int:
    """Room for what is sent, four times the models (checkpoints, merged), and software."""
    sent = sum(item.size_bytes for item in job.inputs if not isinstance(item, Attached))
    models = sum(cache.tree.size_bytes for cache in job.caches)
    needed = _ENVIRONMENT_GIB + -(-(sent + 4 * models) // _GIB)
    return max(int(offer.data["disk_gib"]), needed)


def _ask(box: Box, offer: Offer) -> Ask:
    cpus, memory = offer.data.get("cpus"), offer.data.get("memory_gib")
    return Ask(
        name=box.name,
        region=box.region,
        template=box.template,
        disk_gib=box.disk_gib,
        gpu=box.gpu,
        count=box.count,
        spot=box.spot,
        filesystem=box.filesystem,
        cpus=None if cpus is None else int(cpus),
        memory_gib=None if memory is None else int(memory),
    )
