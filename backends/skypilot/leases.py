"""What of a cluster's record crosses the contract: its jobs as leases, their files, digests."""

from __future__ import annotations

import hashlib
import json
import os
from datetime import datetime

from backends import plan
from backends.errors import NotLaunched
from backends.job import Files, Job
from backends.lease import Lease
from backends.skypilot.records import Cluster, JobNote, Stage
from backends.skypilot.server import PREFIX

NAME = "skypilot"


def cluster_name(job: str) -> str:
    """What the cluster that is made for a job is called."""
    return PREFIX + job


def job_name(cluster: str) -> str:
    """The job that a cluster of ours was made for."""
    return cluster.removeprefix(PREFIX)


def lease_of(cluster: Cluster, job: str) -> Lease:
    """A job's lease, the same whenever it is asked for."""
    note = cluster.jobs[job]
    return Lease(
        backend=NAME,
        id=note.lease,
        job=job,
        files=files_of(job),
        created_at=datetime.fromisoformat(note.created_at),
        data={"cluster": cluster.name},
    )


def files_of(job: str) -> Files:
    """A job's run directory, wherever its cluster is."""
    return Files(backend=NAME, id=job, data={"job": job})


def request_of(job: Job) -> str:
    """A digest of what the job does, without its deadline: a repeated launch has a shorter one."""
    document = plan.document(job.plan, job=job.name, outputs=job.outputs, deadline=None)
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def require_same(cluster: Cluster, job: Job) -> None:
    """Raises NotLaunched when another job has, or had, this name."""
    note = cluster.jobs[job.name]
    if note.stage is Stage.RELEASED or (note.request and note.request != request_of(job)):
        raise NotLaunched(
            f"another job named {job.name!r} left its files behind SkyPilot",
            hint="give this one another name, or remove the other",
        )


def new_note(job: Job, cluster: Cluster, now: datetime) -> JobNote:
    """What is known of a job before anything is done for it."""
    return JobNote(
        lease=f"{cluster.name}.{job.name}.{os.urandom(3).hex()}",
        created_at=now.isoformat(),
        request=request_of(job),
        before=str(cluster.cost(now)),
        nodes=job.nodes,
    )
