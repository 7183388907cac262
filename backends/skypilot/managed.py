"""Jobs that SkyPilot itself takes up again when their machine is taken away: its managed jobs.

The run directory lies on the disk that the nodes of a Slurm cluster share, and is written and read
over the login node; or it is kept in a bucket that the user names. The job's commands go on in it
wherever SkyPilot starts them next. What its
state says is the verdict, once SkyPilot has let go of the job as well: a runner that its node's end
stopped has not ended.
"""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from backends import rundir
from backends.errors import FtlaunchError, Lost, MayStillBill, Refused, Unreachable, Unsure
from backends.job import Attached, Job
from backends.lease import Keep, Lease, Observation, Phase, Signal
from backends.offer import Money, Offer
from backends.protocol import Progress, silent
from backends.skypilot.bucket import HALF_NAME
from backends.skypilot.errors import as_launch_error
from backends.skypilot.leases import (
    NAME,
    cluster_name,
    lease_of,
    new_note,
    require_same,
)
from backends.skypilot.queue import Managed, Queue
from backends.skypilot.reach import Reach, reachable
from backends.skypilot.records import SLURM, Cluster, Held, JobNote, Records, Stage
from backends.skypilot.server import Server
from backends.skypilot.shipping import script
from backends.skypilot.software import unseen
from backends.ssh.surroundings import plan_software
from backends.verdicts import remembered, verdict_of

_TRIES, _PAUSE_S, _HEARD_S = 60, 1.0, 60.0
_QUEUED = frozenset({"PENDING", "SUBMITTED", "STARTING"})
_SIGNAL = re.compile(r"\bSIG(TERM|INT|HUP)\b")
"""In the reason of an end that its node's end may have brought, and not a wish of the user's."""


def wanted(job: Job, offer: Offer) -> bool:
    """Whether a job on this offer is held as a managed one: it has something to go on from."""
    recovers = offer.data.get("recovers") == "1"
    return recovers and job.plan.checkpoint is not None and not job.ports


class ManagedJobs:
    """Launches, looks at and ends them. A record of such a job is a `Cluster` with `managed`."""

    def __init__(
        self, server: Server, records: Records, reach: Reach, *, clock: Callable[[], datetime]
    ) -> None:
        self._server = server
        self._records = records
        self._reach = reach
        self._clock = clock
        self.queue = Queue(server)

    # ── launching ─────────────────────────────────────────────────────────────────────────────

    def launch(
        self, job: Job, offer: Offer, on_lease: Callable[[Lease], None], told: Progress
    ) -> Lease:
        """See `Backend.launch`. The caller holds the claim on the job's name."""
        known = self._records.of_job(job.name)
        if known is not None:
            require_same(known, job)
            if known.jobs[job.name].stage is Stage.STARTED:
                on_lease(found := lease_of(known, job.name))
                return found
        self._server.await_answer()
        cluster = known or self._new(job, offer)
        self._require_attached(job, cluster.store)
        cluster = self._records.save(replace(cluster, price=str(offer.price.amount)))
        found = lease_of(cluster, job.name)
        try:
            on_lease(found)
            self._begin(cluster, job, offer, told)
        except BaseException as error:
            raise self._undone(job, found, error) from error
        return found

    def _new(self, job: Job, offer: Offer) -> Cluster:
        now = self._clock()
        cluster = Cluster(
            name=cluster_name(job.name),
            created_at=now.isoformat(),
            server=self._server.url(),
            cloud=offer.data.get("cloud", SLURM),
            region=offer.region.partition("/")[2],
            managed=True,
            store=offer.data.get("store", ""),
        )
        return replace(cluster, jobs={job.name: new_note(job, cluster, now)})

    def _require_attached(self, job: Job, store: str) -> None:
        for item in job.inputs:
            if not isinstance(item, Attached):
                continue
            name = item.files.data.get("job", item.files.id)
            cluster = self._records.of_job(name)
            note = None if cluster is None else cluster.jobs[name]
            if note is None or (note.stage is Stage.RELEASED and not note.kept):
                raise Refused(
                    f"the files of the earlier job {name!r} are no longer behind SkyPilot",
                    hint="run the earlier job again",
                )
            assert cluster is not None
            if cluster.store != store:
                raise Refused(
                    f"the files of the earlier job {name!r} are in {cluster.store or 'no bucket'}, "
                    f"and this job's are to be in {store or 'none'}",
                    hint=f"give --store {cluster.store}" if cluster.store else "leave --store out",
                )

    def _begin(self, cluster: Cluster, job: Job, offer: Offer, told: Progress) -> None:
        if cluster.store:
            told("reaching the bucket")
            self._reach.store(cluster.store).require()
            root = cluster.store
        else:
            told("reaching the login node")
            root = self._reach.ready(cluster, told)
        cluster = self._records.save(replace(cluster, root=root))
        number = self._found(cluster)
        if number is None:
            number = self._submitted(cluster, job, offer, told)
        cluster = replace(cluster.noted(job.name, number=number), held=Held.UP)
        self._records.save(cluster.noted(job.name, stage=Stage.STARTED))

    def _found(self, cluster: Cluster) -> int | None:
        """The number of a job that an earlier, broken launch has submitted."""
        if cluster.request:
            self._server.answer(cluster.request)
        rows = self.queue.jobs(cluster.name, over=True)
        return rows[0].number if rows else None

    def _submitted(self, cluster: Cluster, job: Job, offer: Offer, told: Progress) -> int:
        secrets: dict[str, str] | None = None
        if cluster.store:
            store = self._reach.store(cluster.store)
            if half := store.lay(unseen(job, NAME), told=told):
                secrets = {HALF_NAME: half}
            run = script(store.address, job.name)
        else:
            place = self._reach.workplace(cluster)
            with reachable(cluster):
                told("looking at the login node")
                software = plan_software(place, job, NAME)
                place.lay(software.job, told=told)
                run = f"exec {shlex.join(place.give(software.job, {}, again=True))}"
        told("SkyPilot takes the job in")
        sky = self._server.sdk
        task = sky.Task(name=cluster.name, run=run, num_nodes=job.nodes, secrets=secrets)
        task.set_resources([sky.Resources(**one) for one in json.loads(offer.data["resources"])])
        try:
            request = self.queue.submit(task, cluster.name)
            self._records.save(replace(cluster, request=request))
            numbers, _ = self._server.answer(request)
            return int(numbers[0])
        except Unreachable:
            # It may have been taken in all the same: asked for twice, it would be there twice.
            if (number := self._taken_in(cluster.name)) is not None:
                return number
            raise

    def _taken_in(self, name: str) -> int | None:
        """The number of a job whose submission nobody heard the answer to."""
        end = time.monotonic() + _HEARD_S
        while True:
            with contextlib.suppress(Unreachable):
                if rows := self.queue.jobs(name, over=True):
                    return rows[0].number
            if time.monotonic() > end:
                return None
            time.sleep(_PAUSE_S)

    def _undone(self, job: Job, found: Lease, error: BaseException) -> BaseException:
        """Leave nothing of a launch that failed; what is to be raised."""
        cluster = self._records.of_job(job.name)
        try:
            if cluster is not None:
                self.release(cluster, job.name, Keep.NOTHING)
                self._records.forget(cluster.name)
        except MayStillBill as doubt:
            told = f"the launch failed, and {doubt.message}"
            return Unsure(told, intent=job.name, lease=found, hint=doubt.hint)
        return as_launch_error(error)

    # ── looking ───────────────────────────────────────────────────────────────────────────────

    def observed(self, cluster: Cluster, job: str) -> Observation:
        """How it stands: what its run directory says, and what SkyPilot makes of it."""
        note = cluster.jobs[job]
        if note.verdict is not None:
            return remembered(note.verdict, self._worked(cluster, note.verdict.get("state")))
        cost = Money(Decimal(0))
        if note.stage is Stage.RELEASED:
            return Observation(Phase.LOST, reason="it was let go of before its end", cost=cost)
        if note.stage is Stage.LAYING:
            if self._records.claimed(job):
                return Observation(Phase.STARTING, reason="it is being launched", cost=cost)
            return Observation(Phase.LOST, reason="its launch was cut short", cost=cost)
        if cluster.store:
            seen = self._reach.store(cluster.store).status(job)
        else:
            with reachable(cluster):
                seen = self._reach.workplace(cluster).status(job)
        cost = self._worked(cluster, seen.state)
        if _ended(seen.state):
            found = rundir.observation(seen.state, alive=False, cost=cost)
        elif seen.alive:
            return rundir.observation(seen.state, alive=True, cost=cost)
        else:
            # Nothing works in its run directory: SkyPilot knows whether it will again.
            rows = self.queue.jobs(cluster.name, over=True)
            row = rows[0] if rows else None
            if row is not None and not row.over:
                return _waiting(row, seen.state, cost)
            found = _over(row, seen.state, cost)
        self._records.note_verdict(cluster.name, job, verdict_of(found))
        return found

    def _worked(self, cluster: Cluster, state: Mapping[str, Any] | None) -> Money:
        """Its price for the time that its runner counts, over all attempts."""
        seconds = Decimal(str((state or {}).get("elapsed_s") or 0))
        return Money(Decimal(cluster.price) * seconds / 3600)

    # ── ending ────────────────────────────────────────────────────────────────────────────────

    def signal(self, cluster: Cluster, job: str, what: Signal, *, grace: timedelta) -> None:
        """Pass a wish on: to its runner where there is one, else to SkyPilot."""
        note = cluster.jobs[job]
        if note.verdict is not None or note.stage is not Stage.STARTED:
            return
        if cluster.store:
            self._leave_wish(cluster, job, what, grace)
            return
        place = self._reach.workplace(cluster)
        with reachable(cluster):
            alive = place.status(job).alive
            if alive:
                place.signal(job, what, grace=grace)
        if not alive and what is Signal.STOP:
            self._cancel(cluster)

    def _leave_wish(self, cluster: Cluster, job: str, what: Signal, grace: timedelta) -> None:
        """A machine that works on it looks for wishes; where there is none, SkyPilot is asked."""
        rows = self.queue.jobs(cluster.name)
        if what is Signal.STOP and not any(row.status == "RUNNING" for row in rows):
            self._cancel(cluster)
            return
        self._reach.store(cluster.store).signal(job, what, grace=grace)

    def release(self, cluster: Cluster, job: str, keep: Keep) -> Cluster:
        """Until SkyPilot has let go of it. The caller holds its claim. Raises MayStillBill."""
        if cluster.jobs[job].stage is Stage.LAYING:
            keep = Keep.NOTHING
        if cluster.held is not Held.GONE:
            self._end(cluster)
        if cluster.root:
            self._clear(cluster, job, keep)
        cluster = cluster.noted(job, stage=Stage.RELEASED, kept=keep is Keep.FILES)
        return self._records.try_save(replace(cluster, held=Held.GONE))

    def _end(self, cluster: Cluster) -> None:
        last = "it is still at work"
        for number in range(_TRIES):
            if number:
                time.sleep(_PAUSE_S)
            try:
                if self._cancel(cluster):
                    return
            except FtlaunchError as error:
                last = error.message
        raise MayStillBill(
            f"SkyPilot has not let go of the managed job {cluster.name!r}: {last}",
            hint=f"end it yourself with: sky jobs cancel -n {cluster.name}",
        )

    def _cancel(self, cluster: Cluster) -> bool:
        """Ask for the end of all jobs of that name; whether none is left."""
        rows = [row for row in self.queue.jobs(cluster.name) if not row.over]
        for row in rows:
            if row.status != "CANCELLING" and not _is_over(row):
                self.queue.cancel(row.number)
        return not rows

    def _clear(self, cluster: Cluster, job: str, keep: Keep) -> None:
        """Its secrets always, its files where they are not wanted."""
        if cluster.store:
            self._clear_bucket(cluster, job, keep)
            return
        place = self._reach.workplace(cluster)
        try:
            with reachable(cluster):
                place.forget_given(job)
                if keep is Keep.NOTHING:
                    place.end(job)
                    place.remove(job)
        except (Lost, Refused):
            return
        except FtlaunchError as error:
            raise MayStillBill(
                f"the files of {job} are still on the disk of {cluster.region!r}: {error.message}",
                hint="nothing of it runs; try again",
            ) from error

    def _clear_bucket(self, cluster: Cluster, job: str, keep: Keep) -> None:
        store = self._reach.store(cluster.store)
        try:
            store.forget_secrets(job)
            if keep is Keep.NOTHING:
                store.remove(job)
        except FtlaunchError as error:
            raise MayStillBill(
                f"the files of {job} are still in {cluster.store}: {error.message}",
                hint="nothing of it runs, but the bucket costs something; try again",
            ) from error

    # ── other computers' ──────────────────────────────────────────────────────────────────────

    def taken_over(self, job: str) -> Cluster | None:
        """A managed job of another computer, known here from now on; None: there is none."""
        try:
            rows = self.queue.jobs(cluster_name(job), over=True)
        except FtlaunchError:
            return None
        if not rows or not (rows[0].region or rows[0].store):
            return None
        row = rows[0]
        began = datetime.fromtimestamp(row.submitted_at, UTC).isoformat()
        note = JobNote(lease=row.name, created_at=began, stage=Stage.STARTED, number=row.number)
        cluster = Cluster(
            name=row.name,
            created_at=began,
            server=self._server.url(),
            cloud=row.cloud or SLURM,
            region=row.region,
            managed=True,
            store=row.store,
            held=Held.UP,
            jobs={job: note},
        )
        if row.store:
            return self._records.save(replace(cluster, root=row.store))
        return self._records.save(replace(cluster, root=self._reach.ready(cluster, silent)))


def _ended(state: Mapping[str, Any] | None) -> bool:
    """Whether its runner gave a verdict, and not because its node was taken from under it."""
    return _has_verdict(state) and not _SIGNAL.search(str((state or {}).get("reason")))


def _has_verdict(state: Mapping[str, Any] | None) -> bool:
    found = rundir.phase(state)
    return found.ended and found is not Phase.LOST


def _is_over(row: Managed) -> bool:
    return replace(row, at_work=False).over


def _over(row: Managed | None, state: Mapping[str, Any] | None, cost: Money) -> Observation:
    """It will not go on."""
    if row is not None and row.status == "CANCELLED":
        return Observation(Phase.STOPPED, 130, "SkyPilot was asked to end it", cost, state)
    if _has_verdict(state):
        return rundir.observation(state, alive=False, cost=cost)
    said = "SkyPilot has no job of that name" if row is None else _said(row)
    return Observation(Phase.LOST, reason=said, cost=cost, state=state)


def _waiting(row: Managed, state: Mapping[str, Any] | None, cost: Money) -> Observation:
    if row.status == "RECOVERING":
        why = "its machine was taken away, and SkyPilot makes another"
        return Observation(Phase.STARTING, reason=why, cost=cost, state=state)
    if _ended(state):  # its cluster is being let go of
        return Observation(
            Phase.STOPPING, reason="its machine is let go of", cost=cost, state=state
        )
    if row.status == "RUNNING" and state is not None:
        # A lock on a shared disk may not be seen from another machine, and in a bucket is none.
        stops = rundir.phase(state) is Phase.STOPPING
        return Observation(Phase.STOPPING if stops else Phase.RUNNING, cost=cost, state=state)
    if row.status == "RUNNING":  # on a machine of its own, that bills
        return Observation(Phase.STARTING, reason="its machine is there, and it begins", cost=cost)
    if state is None or row.status in _QUEUED:
        why = f"SkyPilot has the job in its queue ({row.status.lower()})"
        return Observation(Phase.QUEUED, reason=why, cost=cost, state=state)
    return Observation(Phase.STARTING, reason="it begins again", cost=cost, state=state)


def _said(row: Managed) -> str:
    why = f": {row.why.splitlines()[0]}" if row.why else ""
    return f"SkyPilot ended it ({row.status.lower()}){why}"
