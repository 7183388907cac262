"""How a job on a cluster stands: what its runner says, and of a silent cluster SkyPilot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from decimal import Decimal

from backends import rundir
from backends.errors import Lost, Unreachable
from backends.lease import Observation, Phase
from backends.offer import Money
from backends.skypilot.ending import require_its_server
from backends.skypilot.managed import ManagedJobs
from backends.skypilot.reach import Reach, reachable
from backends.skypilot.records import Cluster, Held, Records, Stage
from backends.skypilot.server import Server
from backends.ssh.programs import FarError
from backends.ssh.workplace import Workplace
from backends.verdicts import remembered, verdict_of

_FILES_GONE = "its files are gone: finished from another computer, or removed there"
_CLUSTER_GONE = (
    "its cluster is gone: it took itself down, or its run was finished from another computer"
)


class Observing:
    """Looks at jobs, and remembers what does not change any more."""

    def __init__(
        self,
        server: Server,
        records: Records,
        reach: Reach,
        managed: ManagedJobs,
        clock: Callable[[], datetime],
    ) -> None:
        self._server = server
        self._records = records
        self._reach = reach
        self._managed = managed
        self._clock = clock

    def observed(self, cluster: Cluster, job: str) -> Observation:
        """See `Backend.observe`. Raises Unreachable and what else the server says."""
        if cluster.managed:
            return self._managed.observed(cluster, job)
        note = cluster.jobs[job]
        cost = self._cost(cluster, job)
        if note.verdict is not None:
            return remembered(note.verdict, cost)
        if note.stage is Stage.RELEASED:
            return Observation(Phase.LOST, reason="it was let go of before its end", cost=cost)
        if note.stage is Stage.LAYING:
            if self._records.claimed(job):
                return Observation(Phase.STARTING, reason="its cluster is being made", cost=cost)
            return Observation(Phase.LOST, reason="its launch was cut short", cost=cost)
        try:
            with reachable(cluster):
                return self._seen(cluster, job, self._reach.workplace(cluster))
        except (Unreachable, FarError) as error:
            if cluster.held is Held.GONE:
                raise
            return self._without_answer(cluster, job, error.message)

    def _seen(self, cluster: Cluster, job: str, place: Workplace) -> Observation:
        seen = place.status(job)
        cost = self._cost(cluster, job)
        if seen.state is None and not seen.alive:
            found = Observation(Phase.LOST, reason=_FILES_GONE, cost=cost)
        else:
            found = rundir.observation(seen.state, alive=seen.alive, cost=cost)
        if found.phase.ended:
            self._records.note_verdict(cluster.name, job, verdict_of(found))
        return found

    def _without_answer(self, cluster: Cluster, job: str, why: str) -> Observation:
        """The cluster is silent: what SkyPilot finds out about it decides."""
        cost = self._cost(cluster, job)
        require_its_server(cluster, self._server)
        rows = self._server.clusters(cluster.name, refresh=True)
        if rows:
            self._reach.forget(cluster)
            return Observation(Phase.UNKNOWN, reason=why, cost=cost)
        now = self._clock()
        gone = replace(cluster, held=Held.GONE, spent=str(cluster.cost(now)), since=None)
        cluster = self._records.save(gone)
        try:
            with reachable(cluster):
                return self._seen(cluster, job, self._reach.workplace(cluster))
        except Lost:
            lost = Observation(Phase.LOST, reason=_CLUSTER_GONE, cost=cost)
            self._records.note_verdict(cluster.name, job, verdict_of(lost))
            return lost

    def _cost(self, cluster: Cluster, job: str) -> Money | None:
        """What the cluster has cost since the job came to it; the user's own costs nothing more.

        None for one that another computer made.
        """
        if not cluster.ours:
            return Money(Decimal(0))
        if not cluster.price:
            return None
        spent = cluster.cost(self._clock()) - Decimal(cluster.jobs[job].before)
        return Money(max(spent, Decimal(0)))
