"""The end of jobs and of clusters: asked for, and then seen in SkyPilot's own list."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from backends.errors import FtlaunchError, Lost, MayStillBill, Refused, Unreachable
from backends.lease import Keep
from backends.skypilot.copies import Copies
from backends.skypilot.reach import Reach, reachable
from backends.skypilot.records import Cluster, Held, Records, Stage
from backends.skypilot.server import Server
from backends.ssh.programs import FarError

_TRIES, _PAUSE_S = 5, 2.0


class Ending:
    """What ends a job's hold on its cluster, and the cluster with the last of them."""

    def __init__(
        self,
        server: Server,
        records: Records,
        reach: Reach,
        copies: Copies,
        clock: Callable[[], datetime],
    ) -> None:
        self._server = server
        self._records = records
        self._reach = reach
        self._copies = copies
        self._clock = clock

    def release(self, cluster: Cluster, job: str, keep: Keep) -> Cluster:
        """End a job's hold. The caller holds the claims of both. Raises MayStillBill."""
        there = self._is_there(cluster)
        if not there and cluster.held is not Held.GONE:
            cluster = self._gone(cluster)
        if cluster.jobs[job].stage is Stage.LAYING:
            keep = Keep.NOTHING
        if there:
            self._end_job(cluster, job)
        self._remove_others(cluster, job)
        if keep is Keep.NOTHING:
            self._copies.forget(job)
            self._remove(cluster, job)
        kept = keep is Keep.FILES and self._kept(cluster, job, there=there)
        cluster = self._records.try_save(cluster.noted(job, stage=Stage.RELEASED, kept=kept))
        return self.settle(cluster)

    def undo(self, cluster: Cluster, job: str) -> None:
        """Leave things as they were before a launch that failed. Raises MayStillBill."""
        if cluster.held is Held.UP:
            with contextlib.suppress(FtlaunchError), reachable(cluster):
                for place in (self._reach.workplace(cluster), *self._reach.others(cluster, job)):
                    place.undo(job)
        number = cluster.jobs[job].number
        if number is not None:
            with contextlib.suppress(FtlaunchError):
                self._server.cancel(cluster.name, number)
        cluster = self.settle(cluster.without(job))
        if not cluster.jobs:
            self._records.forget(cluster.name)

    def settle(self, cluster: Cluster) -> Cluster:
        """Leave a cluster as its jobs need it: up, or gone. Raises MayStillBill."""
        if cluster.open_jobs():
            return self._records.save(cluster)
        if not cluster.ours:
            # The user's own goes on; only we have nothing on it any more.
            self._reach.forget(cluster)
            return self._records.try_save(replace(cluster, since=None, held=Held.ASKED))
        if cluster.held is Held.GONE:
            return self._records.try_save(cluster)
        return self.down(cluster)

    def down(self, cluster: Cluster) -> Cluster:
        """Until SkyPilot no longer lists it. Raises MayStillBill when that cannot be had."""
        spent = str(cluster.cost(self._clock()))
        cluster = self._records.try_save(
            replace(cluster, held=Held.ENDING, spent=spent, since=None)
        )
        self._reach.forget(cluster)
        last = "it is still listed"
        for number in range(_TRIES):
            if number:
                time.sleep(_PAUSE_S)
            try:
                # One that is still being made would be there after its end.
                self._server.cancel_requests(cluster.name)
                self._server.down(cluster.name)
                if not self._server.clusters(cluster.name):
                    return self._records.try_save(replace(cluster, held=Held.GONE))
            except FtlaunchError as error:
                last = error.message
        raise MayStillBill(
            f"the cluster {cluster.name!r} is not taken down: {last}",
            hint=f"end it yourself with: sky down {cluster.name}",
        )

    def _kept(self, cluster: Cluster, job: str, *, there: bool) -> bool:
        """Make sure that a job's files outlive its cluster; whether they do.

        Raises MayStillBill when they cannot be copied: the cluster then stays, with them.
        """
        if cluster.shared or self._copies.has(job) or (there and not cluster.ours):
            return True
        if not there:
            return False
        try:
            with reachable(cluster):
                self._copies.take(job, self._reach.workplace(cluster))
        except (FtlaunchError, OSError) as error:
            raise MayStillBill(
                f"the files of {job} are still on {cluster.name!r} only: {error}",
                hint=f"try again; without them, end it with: sky down {cluster.name}",
            ) from error
        return True

    def _is_there(self, cluster: Cluster) -> bool:
        """Whether SkyPilot has the cluster. Raises MayStillBill when it does not say."""
        if cluster.held is Held.GONE:
            return False
        try:
            require_its_server(cluster, self._server)
            name = cluster.name
            return bool(self._server.clusters(name) or self._server.at_work(name))
        except FtlaunchError as error:
            raise MayStillBill(
                f"SkyPilot does not say how {cluster.name!r} stands: {error.message}",
                hint=f"try again, or end it with: sky down {cluster.name}",
            ) from error

    def found_gone(self, cluster: Cluster) -> Cluster:
        """A cluster that was up, as its cloud has it now: it may have taken itself down meanwhile.

        Raises Unreachable when that is not said.
        """
        require_its_server(cluster, self._server)
        there = self._server.clusters(cluster.name, refresh=True)
        return cluster if there else self._gone(cluster)

    def _gone(self, cluster: Cluster) -> Cluster:
        """It took itself down, or somebody else did."""
        self._reach.forget(cluster)
        spent = str(cluster.cost(self._clock()))
        return self._records.try_save(replace(cluster, held=Held.GONE, spent=spent, since=None))

    def _end_job(self, cluster: Cluster, job: str) -> None:
        """As much as can be done: what is left of it dies with the cluster, if that is ours.

        Raises MayStillBill for a guest that may go on.
        """
        try:
            if cluster.root:
                with reachable(cluster):
                    # The first one ends the others; what it could not is ended here.
                    self._reach.workplace(cluster).end(job)
                    for other in self._reach.others(cluster, job):
                        other.end(job)
            # A runner that has ended ends its place in the queue; one that never began does not.
            note = cluster.jobs[job]
            if note.number is not None and note.stage is Stage.LAYING and not cluster.ours:
                self._server.cancel(cluster.name, note.number)
        except (Unreachable, Lost, FarError, MayStillBill) as error:
            if not cluster.ours:
                raise MayStillBill(
                    f"{job} may still run on {cluster.name!r}: {error.message}",
                    hint=f"try again, or end it with: sky cancel {cluster.name}",
                ) from error

    def _remove_others(self, cluster: Cluster, job: str) -> None:
        """What is on the other nodes, and would outlive the cluster: the first one has it all."""
        if not cluster.root or (cluster.ours and not cluster.shared):
            return
        with contextlib.suppress(Lost, Refused, Unreachable, FarError), reachable(cluster):
            for other in self._reach.others(cluster, job):
                other.remove(job)

    def _remove(self, cluster: Cluster, job: str) -> None:
        """Its files, where they would outlive the cluster."""
        if not cluster.root or (cluster.ours and not cluster.shared):
            return
        try:
            with reachable(cluster):
                place = self._reach.workplace(cluster)
                place.remove(job)
                for name in _only_for(cluster, job):
                    place.remove(name)
        except (Lost, Refused):
            return
        except (Unreachable, FarError) as error:
            if cluster.held is not Held.GONE:
                # While it is up somebody can come again; a disk alone bills nobody.
                raise MayStillBill(
                    f"the files of {job} are still on {cluster.name!r}: {error.message}",
                    hint="try again",
                ) from error


def _only_for(cluster: Cluster, job: str) -> set[str]:
    """The earlier jobs that were brought from a bucket for this one, and no other that is here."""
    others = [note for name, note in cluster.jobs.items() if name != job and note.kept_or_open]
    wanted = {name for note in others for name in note.brought}
    return set(cluster.jobs[job].brought) - wanted - set(cluster.jobs)


def require_its_server(cluster: Cluster, server: Server) -> None:
    """Raises Unreachable where another API server is asked than the one that made the cluster."""
    if cluster.server and cluster.server != server.url():
        raise Unreachable(
            f"the cluster {cluster.name!r} was made through {cluster.server}, "
            f"and SkyPilot here asks {server.url()}",
            hint=f"log in to that one again: sky api login -e {cluster.server}",
        )
