"""The verbs of the SkyPilot backend."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath

from backends.errors import (
    FtlaunchError,
    Lost,
    MayStillBill,
    NotLaunched,
    Refused,
    Unreachable,
    Unsupported,
)
from backends.job import Attached, Files, Job
from backends.layout import require_inside
from backends.lease import Address, Finding, Keep, Lease, Observation, Phase, Signal
from backends.offer import Money, Need, Offer
from backends.protocol import Options, Progress, silent
from backends.skypilot import managed
from backends.skypilot.copies import Copies
from backends.skypilot.ending import Ending
from backends.skypilot.launching import Launching
from backends.skypilot.leases import (
    NAME,
    cluster_name,
    files_of,
    job_name,
    lease_of,
)
from backends.skypilot.managed import ManagedJobs
from backends.skypilot.observing import Observing
from backends.skypilot.offers import Offers
from backends.skypilot.reach import Reach, reachable
from backends.skypilot.records import Cluster, Held, JobNote, Records, Stage
from backends.skypilot.server import Row, Server

_GUEST = "cluster/"


class SkyPilot:
    """Runs jobs on clusters that the user's SkyPilot makes; docs/backends.md says what lies where.

    The detail narrows where: `aws`, `kubernetes`, `slurm/NAME`, as SkyPilot's own `--infra` has it;
    `cluster/NAME` is a cluster of the user's own that is up, on which jobs are guests.
    """

    name = NAME

    def __init__(self, options: Options) -> None:
        self._options = options
        guest = options.detail.removeprefix(_GUEST) if options.detail.startswith(_GUEST) else ""
        infra = "" if guest else options.detail
        self._guest = guest
        self._server = Server(options.environ)
        self._records = Records(options.state_dir.absolute())
        self._reach = Reach(self._server, self._records, options.environ)
        self._copies = Copies(self._records.root / "kept")
        self._ending = Ending(self._server, self._records, self._reach, self._copies, options.clock)
        self._offers = Offers(self._server, infra=infra, guest=guest, clock=options.clock)
        self._managed = ManagedJobs(self._server, self._records, self._reach, clock=options.clock)
        self._observing = Observing(
            self._server, self._records, self._reach, self._managed, options.clock
        )
        self._launching = Launching(
            self._server,
            self._records,
            self._reach,
            self._ending,
            self._copies,
            guest=guest,
            clock=options.clock,
        )

    # ── looking ───────────────────────────────────────────────────────────────────────────────

    def check(self) -> Sequence[Finding]:
        """See `Backend.check`."""
        from backends.skypilot import checking

        return checking.check(self._server, self._records)

    def offers(self, need: Need, *, live: bool) -> Sequence[Offer]:
        """See `Backend.offers`. Raises CredentialsMissing and Unreachable when live."""
        return self._offers.live(need) if live else self._offers.dated(need)

    def leases(self) -> Sequence[Lease]:
        """See `Backend.leases`. Raises Unreachable when the server does not say."""
        rows = {row.name: row for row in self._server.clusters()}
        jobs = {row.name: row for row in self._managed.queue.alive()}
        found = []
        for cluster in self._records.all():
            row = rows.pop(cluster.name, None)
            known = jobs.pop(cluster.name, None)
            if cluster.managed:
                if known is not None or (cluster.held is not Held.GONE and cluster.request):
                    found += [lease_of(cluster, job) for job in cluster.jobs]
            elif cluster.ours:
                found += [lease_of(cluster, job) for job in self._billing(cluster, row)]
            else:
                alive = [job for job in cluster.open_jobs() if not cluster.jobs[job].verdict]
                found += [lease_of(cluster, job) for job in alive]
        found += [self._stranger(row.name, row.launched_at) for row in rows.values()]
        return found + [self._stranger(row.name, row.submitted_at) for row in jobs.values()]

    def _billing(self, cluster: Cluster, row: Row | None) -> list[str]:
        """The jobs whose leases stand for a cluster that may bill."""
        if cluster.held is Held.GONE:
            return []
        if row is None and not self._records.claimed(cluster.name):
            # Whoever asked for it may have died: what was asked is done all the same.
            young = cluster.held is Held.ASKED and bool(self._server.at_work(cluster.name))
            return cluster.open_jobs() if young else []
        # Its end failed, perhaps: a release of its last job does it again.
        return cluster.open_jobs() or list(cluster.jobs)[-1:]

    def _stranger(self, name: str, since: float) -> Lease:
        """A cluster that another computer made: named after the job that it was made for."""
        return Lease(
            backend=NAME,
            id=name,
            job=job_name(name),
            files=files_of(job_name(name)),
            created_at=datetime.fromtimestamp(since, UTC),
            data={"cluster": name},
        )

    def _taken_over(self, job: str) -> Cluster | None:
        """The cluster of another computer's job, known here from now on; None: there is none."""
        rows = self._server.clusters(cluster_name(job))
        if not rows:
            return self._managed.taken_over(job)
        row = rows[0]
        now = datetime.fromtimestamp(row.launched_at, UTC).isoformat()
        cluster = Cluster(
            name=row.name,
            created_at=now,
            # SkyPilot lists no prices, and the offer is on the computer that took it.
            price="",
            server=self._server.url(),
            cloud=row.cloud,
            region=row.region,
            held=Held.UP,
            since=now,
            nodes=row.nodes,
            # Of how many it was started on only that is known; none of it is on a node too many.
            jobs={
                job: JobNote(lease=row.name, created_at=now, stage=Stage.STARTED, nodes=row.nodes)
            },
        )
        root = self._reach.ready(cluster, silent)
        return self._records.save(replace(cluster, root=root))

    def _cluster(self, job: str) -> Cluster | None:
        return self._records.of_job(job) or self._taken_over(job)

    # ── how a job stands ──────────────────────────────────────────────────────────────────────

    def observe(self, lease: Lease) -> Observation:
        """See `Backend.observe`."""
        try:
            cluster = self._cluster(lease.job)
            if cluster is None or cluster.jobs[lease.job].lease != lease.id:
                return Observation(Phase.LOST, reason="SkyPilot has no cluster of that name")
            return self._observing.observed(cluster, lease.job)
        except FtlaunchError as error:
            return Observation(Phase.UNKNOWN, reason=error.message)
        except OSError as error:
            return Observation(Phase.UNKNOWN, reason=str(error))

    # ── launching ─────────────────────────────────────────────────────────────────────────────

    def launch(
        self, job: Job, offer: Offer, *, on_lease: Callable[[Lease], None], progress: Progress
    ) -> Lease:
        """See `Backend.launch`."""
        _refuse(job)
        try:
            with self._records.claim(job.name):
                known = self._records.of_job(job.name)
                is_managed = managed.wanted(job, offer) if known is None else known.managed
                how = self._managed if is_managed else self._launching
                return how.launch(job, offer, on_lease, progress)
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
        """See `Backend.signal`. Raises Unreachable when the cluster does not take it in."""
        cluster = self._cluster(lease.job)
        if cluster is None or cluster.held is Held.GONE:
            return
        if cluster.managed:
            self._managed.signal(cluster, lease.job, what, grace=grace)
            return
        note = cluster.jobs[lease.job]
        if note.verdict is not None or note.stage is not Stage.STARTED:
            return
        with reachable(cluster):
            self._reach.workplace(cluster).signal(lease.job, what, grace=grace)

    @contextlib.contextmanager
    def tunnel(self, lease: Lease, port: int) -> Iterator[Address]:
        """A private forward over the cluster's ssh alias. See `Backend.tunnel`."""
        seen = self.observe(lease)
        cluster = self._records.of_job(lease.job)
        if seen.phase.ended or cluster is None or cluster.managed:
            raise Lost(f"{lease.job} has ended, so nothing listens on its port {port}")
        with reachable(cluster), self._reach.host(cluster).forward(port) as address:
            yield address

    def release(self, lease: Lease, *, keep: Keep) -> Files | None:
        """See `Backend.release`."""
        with self._records.claim(lease.job):
            try:
                cluster = self._cluster(lease.job)
            except FtlaunchError as error:
                raise MayStillBill(
                    f"SkyPilot does not say how {lease.job} stands: {error.message}",
                    hint=f"try again, or end it with: sky down {cluster_name(lease.job)}",
                ) from error
            if cluster is None:
                return None
            with self._records.claim(cluster.name):
                cluster = self._released(
                    self._records.get(cluster.name) or cluster, lease.job, keep
                )
            return files_of(lease.job) if cluster.jobs[lease.job].kept else None

    def _released(self, cluster: Cluster, job: str, keep: Keep) -> Cluster:
        how = self._managed if cluster.managed else self._ending
        return how.release(cluster, job, keep)

    # ── files ─────────────────────────────────────────────────────────────────────────────────

    def read(
        self, files: Files, path: PurePosixPath, *, offset: int, follow: bool
    ) -> Iterator[bytes]:
        """See `Backend.read`."""
        _require_inside(path)
        cluster, job = self._of(files)
        if cluster.store:
            return self._reach.store(cluster.store).read(job, path, offset=offset, follow=follow)
        if self._copies.has(job):
            return self._copies.read(job, path, offset=offset, follow=follow)
        with reachable(cluster):
            # Connects: a follower is told soon that there is no such file.
            self._reach.workplace(cluster).host.python()
        return self._reading(files, path, offset, follow=follow)

    def _reading(
        self, files: Files, path: PurePosixPath, offset: int, *, follow: bool
    ) -> Iterator[bytes]:
        """The same, going on over the login node when the cluster is let go of meanwhile."""
        while True:
            cluster, job = self._of(files)
            try:
                with reachable(cluster):
                    place = self._reach.workplace(cluster)
                    for chunk in place.read(job, path, offset=offset, follow=follow):
                        offset += len(chunk)
                        yield chunk
            except Unreachable:
                now = self._records.get(cluster.name)
                if now is None or now.held is cluster.held or not now.shared:
                    raise
            else:
                return

    def fetch(self, files: Files, paths: Sequence[PurePosixPath], into: Path) -> None:
        """See `Backend.fetch`."""
        for path in paths:
            _require_inside(path)
        cluster, job = self._of(files)
        if cluster.store:
            self._reach.store(cluster.store).fetch(job, paths, into)
            return
        if self._copies.has(job):
            self._copies.fetch(job, paths, into)
            return
        with reachable(cluster):
            self._reach.workplace(cluster).fetch(job, paths, into, told=silent)

    def listing(self, files: Files) -> Mapping[PurePosixPath, int]:
        """See `Backend.listing`."""
        cluster, job = self._of(files)
        if cluster.store:
            return self._reach.store(cluster.store).listing(job)
        if self._copies.has(job):
            return self._copies.listing(job)
        with reachable(cluster):
            return self._reach.workplace(cluster).listing(job)

    def discard(self, files: Files) -> None:
        """See `Backend.discard`. Raises Refused while the job still runs."""
        job = files.data.get("job", files.id)
        with self._records.claim(job):
            cluster = self._records.of_job(job)
            if cluster is None:
                return
            if not self._observing.observed(cluster, job).phase.ended:
                raise Refused(f"{job} still runs", hint="end it first: ftlaunch stop")
            with self._records.claim(cluster.name):
                now = self._records.get(cluster.name) or cluster
                self._released(now, job, Keep.NOTHING)

    def billed(self, lease: Lease) -> Money | None:  # noqa: ARG002 - the contract names it
        """SkyPilot multiplies prices, too, and has no cloud's bill. See `Backend.billed`."""
        return None

    def clean(self) -> Sequence[Finding]:
        """See `Backend.clean`."""
        from backends.skypilot import checking

        return checking.clean(self._records)

    def _of(self, files: Files) -> tuple[Cluster, str]:
        """The cluster whose disk has a job's files. Raises Lost when they are nowhere."""
        job = files.data.get("job", files.id)
        cluster = self._cluster(job)
        note = None if cluster is None else cluster.jobs[job]
        if cluster is None or note is None or (note.stage is Stage.RELEASED and not note.kept):
            raise Lost(f"the files of {job!r} are no longer behind SkyPilot")
        if not cluster.root:
            raise Lost(f"there are no files of {job!r} yet: its cluster is being made")
        return cluster, job


def _refuse(job: Job) -> None:
    if job.kept_secrets:
        raise Unsupported(
            f"SkyPilot keeps no secrets of jobs, so it has no {job.kept_secrets[0]!r}",
            hint="name a variable of this terminal instead: -s NAME",
        )
    for item in job.inputs:
        if isinstance(item, Attached) and item.files.backend != NAME:
            raise Unsupported(
                f"a cluster of SkyPilot's cannot reach files that {item.files.backend} keeps",
                hint=f"run this job on {item.files.backend}",
            )


def _require_inside(path: PurePosixPath) -> None:
    try:
        require_inside(path)
    except Refused as error:
        raise Lost(f"{os.fspath(path)!r} is not inside the run directory") from error
