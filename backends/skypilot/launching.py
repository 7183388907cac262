"""A launch, step by step; whatever goes wrong, no cluster is left that nobody knows of."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from backends.errors import MayStillBill, NotLaunched, Refused, Unsure
from backends.job import Attached, Job
from backends.lease import Lease
from backends.offer import Offer
from backends.protocol import Progress
from backends.skypilot import nodes
from backends.skypilot.copies import Copies
from backends.skypilot.ending import Ending
from backends.skypilot.errors import as_launch_error
from backends.skypilot.leases import NAME, cluster_name, lease_of, new_note, require_same
from backends.skypilot.offers import idle_minutes, too_small
from backends.skypilot.reach import Reach, reachable
from backends.skypilot.records import Cluster, Held, Records, Stage
from backends.skypilot.server import Row, Server
from backends.skypilot.shipping import bring
from backends.skypilot.stores import Store
from backends.ssh import sync
from backends.ssh.surroundings import plan_software
from backends.ssh.workplace import Workplace

_START_S, _ASK_S, _LOOK_S = 300.0, 10.0, 0.8
_OVER = ("FAILED", "FAILED_SETUP", "FAILED_DRIVER", "CANCELLED", "SUCCEEDED")


class Launching:
    """What a launch needs of the backend's parts. `guest` is a cluster of the user's own."""

    def __init__(
        self,
        server: Server,
        records: Records,
        reach: Reach,
        ending: Ending,
        copies: Copies,
        *,
        guest: str,
        clock: Callable[[], datetime],
    ) -> None:
        self._server = server
        self._records = records
        self._reach = reach
        self._ending = ending
        self._copies = copies
        self._guest = guest
        self._clock = clock

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
        cluster = known or self._beside(job) or self._new(job, offer)
        with self._records.claim(cluster.name):
            cluster = self._records.get(cluster.name) or cluster
            made_for = cluster.held is Held.ASKED
            if made_for and cluster.ours:
                # It is made for this job: as large as that, whatever the offer was asked for.
                price = offer.of(job.nodes).price.amount
                cluster = replace(cluster, price=str(price), nodes=job.nodes)
            if job.name not in cluster.jobs:
                note = new_note(job, cluster, self._clock())
                cluster = replace(cluster, jobs={**cluster.jobs, job.name: note})
            cluster = self._records.save(cluster)
            found = lease_of(cluster, job.name)
            try:
                on_lease(found)
                if made_for:
                    cluster = self._up(cluster, job, offer, told)
                self._start(cluster, job, offer, told)
            except BaseException as error:
                raise self._undone(cluster, job, found, error) from error
        return found

    # ── the cluster ───────────────────────────────────────────────────────────────────────────

    def _new(self, job: Job, offer: Offer) -> Cluster:
        """A record for a cluster of its own, or for the user's that jobs are guests on."""
        now = self._clock().isoformat()
        return Cluster(
            name=self._guest or cluster_name(job.name),
            created_at=now,
            price=str(offer.price.amount),
            ours=not self._guest,
            server=self._server.url(),
        )

    def _beside(self, job: Job) -> Cluster | None:
        """The cluster that holds what the job builds on; None when there is none, or it is gone.

        What a Slurm cluster's disk holds is seen by every job there.
        """
        found: dict[str, Cluster] = {}
        for item in job.inputs:
            if not isinstance(item, Attached):
                continue
            name = item.files.data.get("job", item.files.id)
            cluster = self._records.of_job(name)
            if cluster is not None and cluster.store and cluster.jobs[name].kept_or_open:
                continue  # it is brought from its bucket, wherever this one runs
            if cluster is not None and _may_be_gone(cluster):
                cluster = self._ending.found_gone(cluster)
            note = None if cluster is None else cluster.jobs[name]
            lost = (
                cluster is None or note is None or (note.stage is Stage.RELEASED and not note.kept)
            )
            gone = cluster is not None and cluster.held is Held.GONE and not cluster.shared
            if lost or (gone and not self._copies.has(name)):
                raise Refused(
                    f"the files of the earlier job {name!r} are no longer behind SkyPilot",
                    hint="run the earlier job again",
                )
            assert cluster is not None
            if cluster.held is Held.UP and not cluster.managed:
                found[cluster.name] = cluster
        apart = [one for one in found.values() if not one.shared]
        if len(apart) > 1:
            raise Refused(
                "the job builds on files that lie on two clusters",
                hint="run the earlier jobs on one cluster",
            )
        mine = apart or [one for one in found.values() if one.name == self._guest or one.ours]
        return mine[0] if mine else None

    def _up(self, cluster: Cluster, job: Job, offer: Offer, told: Progress) -> Cluster:
        """Until the cluster is up, can be reached, and is sure to take itself down."""
        if cluster.ours:
            cluster = self._provisioned(cluster, job, offer, told)
        row = self._row(cluster)
        if cluster.ours:
            self._require_autodown(row, _idle(job, offer))
        now = self._clock().isoformat()
        since = datetime.fromtimestamp(row.launched_at, UTC).isoformat() if cluster.ours else now
        cluster = replace(
            cluster,
            held=Held.UP,
            cloud=row.cloud,
            region=row.region,
            nodes=row.nodes,
            since=cluster.since or since,
        )
        told("reaching the cluster")
        root = self._reach.ready(cluster, told)
        return self._records.save(replace(cluster, root=root))

    def _provisioned(self, cluster: Cluster, job: Job, offer: Offer, told: Progress) -> Cluster:
        told("SkyPilot makes a cluster")
        task = self._task(cluster.name, offer, of=job.nodes)
        request = self._server.launch(task, cluster.name, idle_minutes=_idle(job, offer))
        cluster = self._records.save(replace(cluster, request=request))
        self._server.answer(request)
        return cluster

    def _row(self, cluster: Cluster) -> Row:
        row = self._server.made(cluster.name)
        if row is None or row.status != "UP":
            status = "not there" if row is None else row.status
            raise NotLaunched(
                f"the cluster {cluster.name!r} is {status}",
                hint=f"look with: sky status {cluster.name}",
            )
        return row

    def _require_autodown(self, row: Row, minutes: int) -> None:
        """What was asked for is read back: a cluster that would stay for ever is not used."""
        if row.down and 0 <= row.autostop <= minutes:
            return
        self._server.autostop(row.name, minutes)
        again = self._server.clusters(row.name)
        if not again or not again[0].down or not 0 <= again[0].autostop <= minutes:
            raise NotLaunched(
                f"the cluster {row.name!r} would not take itself down when it is idle",
                hint="choose a cloud that can: sky status shows AUTOSTOP",
            )

    def _task(self, name: str, offer: Offer, *, run: str | None = None, of: int = 1) -> Any:
        sky = self._server.sdk
        task = sky.Task(name=name, run=run, num_nodes=of)
        wanted = json.loads(offer.data.get("resources", "[]"))
        if wanted:
            task.set_resources([sky.Resources(**one) for one in wanted])
        return task

    # ── the job ───────────────────────────────────────────────────────────────────────────────

    def _start(self, cluster: Cluster, job: Job, offer: Offer, told: Progress) -> None:
        if cluster.nodes < job.nodes:
            raise too_small(cluster.name, cluster.nodes, job.nodes)
        place = self._reach.workplace(cluster)
        with reachable(cluster):
            cluster = self._bring_back(cluster, job, place, told)
            told("looking at the cluster")
            software = plan_software(place, job, NAME)
            place.lay(software.job, told=told)
            others = self._reach.others(cluster, job.name)
            for number, other in enumerate(others, start=1):
                told(f"laying the job out on node{number}")
                self._bring_over(cluster, job, place, other, told)
                other.lay(software.job, told=told)
            if place.status(job.name).state is None:
                told("starting the job")
                cluster = self._queued(cluster, software.job, [place, *others], offer)
                self._await_start(cluster, job.name, place)
        cluster = self._records.get(cluster.name) or cluster
        self._records.save(cluster.noted(job.name, stage=Stage.STARTED))

    def _bring_back(self, cluster: Cluster, job: Job, place: Workplace, told: Progress) -> Cluster:
        """Send what earlier jobs left, where it is on no disk of a cluster's any more."""
        for item in job.inputs:
            if not isinstance(item, Attached):
                continue
            name = item.files.data.get("job", item.files.id)
            if store := self._store_of(name):
                told(f"bringing {name} from {store.address.url}")
                note = cluster.jobs[job.name]
                brought = tuple(dict.fromkeys((*note.brought, name)))
                cluster = self._records.save(cluster.noted(job.name, brought=brought))
                bring(place, store.address, name)
            elif self._copies.has(name) and name not in cluster.jobs:
                sync.upload(place.host, place.home(name), self._copies.files(name), told=told)
        return cluster

    def _bring_over(
        self, cluster: Cluster, job: Job, first: Workplace, other: Workplace, told: Progress
    ) -> None:
        """Send what earlier jobs left to another node, where it does not see the first one's disk.

        By way of this computer: SkyPilot's nodes have no way from one to the other that is ours.
        """
        for item in job.inputs if not cluster.shared else ():
            if isinstance(item, Attached):
                name = item.files.data.get("job", item.files.id)
                if store := self._store_of(name):
                    bring(other, store.address, name)
                    continue
                self._copies.take(name, first)
                sync.upload(other.host, other.home(name), self._copies.files(name), told=told)

    def _store_of(self, job: str) -> Store | None:
        """The bucket that an earlier job is kept in."""
        cluster = self._records.of_job(job)
        return None if cluster is None or not cluster.store else self._reach.store(cluster.store)

    def _queued(
        self, cluster: Cluster, job: Job, places: Sequence[Workplace], offer: Offer
    ) -> Cluster:
        """Hand the job to the cluster's own queue: what runs there outlives our connection.

        It takes all nodes of the cluster, also for a job of fewer: the queue would choose any.
        """
        lease = cluster.jobs[job.name].lease
        env = nodes.variables(self._records.computer(), lease) if job.nodes > 1 else {}
        script = nodes.script([place.give(job, env) for place in places], of=cluster.nodes)
        on = Offer(NAME, offer.gpu, offer.count, offer.price, data=_accelerators(offer))
        task = self._task(job.name, on, run=script, of=cluster.nodes)
        number = self._server.execute(task, cluster.name)
        return self._records.save(cluster.noted(job.name, number=number))

    def _await_start(self, cluster: Cluster, job: str, place: Workplace) -> None:
        """Until its runner is at work; the queue is asked now and then what it makes of it."""
        number, began = cluster.jobs[job].number, time.monotonic()
        asked = began
        while True:
            seen = place.status(job)
            if seen.alive or seen.state is not None:
                return
            time.sleep(_LOOK_S)
            now = time.monotonic()
            if number is None or now - asked < _ASK_S:
                continue
            asked = now
            said = self._server.job_status(cluster.name, number)
            if (said in _OVER or now - began > _START_S) and place.status(job).state is None:
                raise _not_started(cluster.name, number, said)

    # ── after a failure ───────────────────────────────────────────────────────────────────────

    def _undone(
        self, cluster: Cluster, job: Job, found: Lease, error: BaseException
    ) -> BaseException:
        """Leave nothing of a launch that failed; what is to be raised."""
        cluster = self._records.get(cluster.name) or cluster
        try:
            self._ending.undo(cluster, job.name)
        except MayStillBill as doubt:
            told = f"the launch failed, and {doubt.message}"
            return Unsure(told, intent=job.name, lease=found, hint=doubt.hint)
        return as_launch_error(error)


def _may_be_gone(cluster: Cluster) -> bool:
    """Whether a cluster that was up when last heard of may have taken itself down since."""
    return cluster.held is Held.UP and cluster.ours and not cluster.managed


def _not_started(cluster: str, number: int, said: str) -> NotLaunched:
    """Why the cluster's own queue has not begun a job; a queue that is full says PENDING."""
    if said == "PENDING":
        minutes = round(_START_S / 60)
        return NotLaunched(
            f"the cluster {cluster!r} has not begun the job in {minutes} minutes: "
            "another job seems to hold it",
            hint=f"see what runs there: sky queue {cluster}; then try again, or choose another -b",
        )
    return NotLaunched(
        f"the cluster's queue did not start the job: {said or 'no answer'}",
        hint=f"see: sky logs {cluster} {number}",
    )


def _idle(job: Job, offer: Offer) -> int:
    least = idle_minutes(offer.data.get("cloud", ""))
    if job.self_release is None:
        return least
    # Sooner is no favour where the results would go with it.
    return max(least, round(job.self_release.total_seconds() / 60))


def _accelerators(offer: Offer) -> dict[str, str]:
    """What a job asks of its own cluster's queue: its GPUs, all of them."""
    if offer.gpu is None or not offer.data.get("resources"):
        return {}
    wanted = [{"accelerators": one["accelerators"]} for one in json.loads(offer.data["resources"])]
    return {"resources": json.dumps(wanted[:1])}
