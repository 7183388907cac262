"""Jobs of a run, put into the store: which there are, and what each runs on."""

from __future__ import annotations

import re
import secrets as random_source
from dataclasses import replace

from backends.offer import Offer
from launcher.run import build, spec
from launcher.store import RunRecord, Store


def add_jobs(
    store: Store,
    record: RunRecord,
    run: spec.RunSpec,
    offer: Offer,
    *,
    resume: tuple[int, str] | None = None,
    backend: str | None = None,
) -> int:
    """The jobs the recipe asks for, in order; returns the id of the one that trains.

    resume   an earlier job's id and its checkpoint, to go on from
    backend  where they go; None: where the run is
    """
    prepared = None
    if build.prepares_apart(run, offer):
        job = build.prepare(run)
        prepared = add_job(store, record, job, hardware_of(job, offer), backend=backend)
    trains = build.train(run, resume=resume, prepared=prepared)
    first = add_job(store, record, trains, hardware_of(trains, offer), backend=backend)
    for job in jobs_after(run, first):
        add_job(store, record, job, hardware_of(job, offer), backend=backend)
    return first


_PLAIN = frozenset({"preprocess", "merge"})
"""Jobs that need no GPU: both are axolotl's own to run without one, with the same config."""


def hardware_of(job: spec.JobSpec, offer: Offer) -> Offer:
    """What a job of a run with this offer runs on."""
    return (offer.plain or offer) if job.kind in _PLAIN else offer


def plain_kinds(run: spec.RunSpec, offer: Offer) -> list[str]:
    """The jobs of a training on this offer that run without its GPU, at a price of their own."""
    if offer.plain is None:
        return []
    before = ["preprocess"] if build.prepares_apart(run, offer) else []
    return [*before, *(job.kind for job in jobs_after(run, 0) if job.kind in _PLAIN)]


def jobs_after(run: spec.RunSpec, trained: int) -> list[spec.JobSpec]:
    """What is planned to follow the training `trained`."""
    jobs = []
    if run.steps.train and run.steps.evaluate:
        jobs.append(build.evaluate(run, trained))
    if run.steps.train and run.steps.merge and not run.full:
        jobs.append(build.merge(run, trained))
    return [replace(job, after_success=True) for job in jobs]


def add_job(
    store: Store,
    record: RunRecord,
    job: spec.JobSpec,
    offer: Offer,
    *,
    backend: str | None = None,
) -> int:
    """Record one job under a name that no other job of anybody has; returns its id."""
    slug = re.sub(r"[^a-z0-9]+", "-", record.name.lower()).strip("-")[:16] or "run"
    name = f"ftl-{slug}-{job.kind[:10]}-{random_source.token_hex(3)}"
    added = store.add_job(
        run_id=record.id,
        kind=job.kind,
        name=name,
        spec=spec.job_to_json(job),
        offer=spec.offer_to_json(offer),
        backend=backend,
    )
    return added.id
