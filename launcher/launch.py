"""From a plan to a run in the store that goes on by itself."""

from __future__ import annotations

import itertools
import os
import re
import secrets as random_source
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from backends.errors import BadInput, CredentialsMissing, Refused
from backends.job import Cache, Environment, LocalFile
from backends.offer import Offer
from backends.protocol import Progress
from launcher import bundle as bundling
from launcher import environment, places
from launcher.commands import CONFIG
from launcher.derive import to_yaml
from launcher.planning import Prepared
from launcher.run import build, conductor, pull, spec
from launcher.run.staging import keep_copy, stage
from launcher.store import RunRecord, Store

_SMALL = 8 * 1024 * 1024
"""Files up to this size are copied when a run begins: its later jobs get what the first one had."""


_SPARE = 64 * 1024 * 1024
"""Room that must be left beside the model: logs, adapters, the store."""


def begin(prepared: Prepared, store: Store, *, progress: Progress) -> RunRecord:
    """Make what this machine must have, record the run and its jobs, and start its conductor."""
    run_id = _new_id()
    run = replace(
        prepared.run,
        environment=_software(prepared, progress),
        caches=(*prepared.run.caches, *_model_cache(prepared, progress)),
    )
    _require_room(run, prepared.output, here=prepared.offer.here)
    run = replace(run, small=_staged(run, places.run_dir(run_id) / "staged"))
    try:
        record = _recorded(prepared, store, run_id, run)
    except BaseException:
        shutil.rmtree(places.run_dir(run_id), ignore_errors=True)
        raise
    conductor.start(run_id)
    return record


def _recorded(prepared: Prepared, store: Store, run_id: str, run: spec.RunSpec) -> RunRecord:
    """The run and its jobs in the store; a name of ours that was taken meanwhile makes way."""
    for number in itertools.count(2):
        name, output = prepared.name, prepared.output
        if number > 2:
            name = f"{prepared.name}-{number}"
            output = prepared.output if prepared.request.output else output.with_name(name)
        try:
            with store.together():
                record = store.add_run(
                    run_id=run_id,
                    name=name,
                    recipe=prepared.recipe.origin,
                    backend=prepared.backend_spec,
                    output_dir=output,
                    spec=spec.run_to_json(run),
                )
                add_jobs(store, record, run, prepared.offer)
        except BadInput:
            if prepared.request.name is not None:
                raise
            continue
        return record
    raise AssertionError


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
    for job in _jobs_after(run, first):
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
    return [*before, *(job.kind for job in _jobs_after(run, 0) if job.kind in _PLAIN)]


def _jobs_after(run: spec.RunSpec, trained: int) -> list[spec.JobSpec]:
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


def planned_jobs(prepared: Prepared) -> list[spec.JobSpec]:
    """The jobs as they will be launched, for a dry run to print."""
    run = prepared.run
    apart = build.prepares_apart(run, prepared.offer)
    before = [build.prepare(run)] if apart else []
    return [*before, build.train(run, prepared=0 if apart else None), *_jobs_after(run, 0)]


def _software(prepared: Prepared, progress: Progress) -> Environment:
    """What the jobs run with: made on this machine, or told to another one."""
    chosen = prepared.environment
    if not prepared.offer.here:
        return environment.for_far(chosen, image=prepared.run.image)
    return Environment(prefix=environment.ensure(chosen, progress=progress), lock=chosen.lock)


def _model_cache(prepared: Prepared, progress: Progress) -> tuple[Cache, ...]:
    if prepared.model is None:
        return ()
    from launcher import models

    folder = models.present(prepared.model)
    if folder is None:
        # Unpacking is the work of this machine, wherever the training is.
        mine = prepared.environment if prepared.offer.here else environment.choose({}, gpu=False)
        prefix = environment.ensure(mine, progress=progress)
        folder = models.fetch(prepared.model, prefix=prefix, progress=progress)
    at = PurePosixPath(
        os.path.normpath(prepared.run.workdir / str(prepared.run.config["base_model"]))
    )
    return (bundling.cache_of(folder, at=at),)


def _staged(run: spec.RunSpec, folder: Path) -> tuple[LocalFile, ...]:
    config = stage(folder, run.workdir / CONFIG, to_yaml(run.config).encode())
    kept = tuple(
        keep_copy(folder, file) if file.size_bytes <= _SMALL else file for file in run.small
    )
    return (config, *kept)


def require_secrets(names: Sequence[str]) -> None:
    """Raises CredentialsMissing when a secret is not in this terminal's environment."""
    missing = [name for name in names if not os.environ.get(name)]
    if missing:
        raise CredentialsMissing(
            f"the recipe needs the secret {missing[0]}, which is not set in this terminal",
            hint=f"set it without leaving it in your shell's history: read -rs {missing[0]} "
            f"&& export {missing[0]}",
        )


def _require_room(run: spec.RunSpec, output: Path, *, here: bool) -> None:
    """Refuse what cannot fit: the run's own files, and a new model where they and the results lie.

    here  it runs on this machine

    A merge, and a full fine-tuning, write a model as large as the base model. One that comes from
    a hub has no size that is known here.
    """
    files = sum(file.size_bytes for file in (*run.small, *run.data))
    base = sum(cache.tree.size_bytes for cache in run.caches)
    made = base if run.steps.merge or run.full else 0
    kept = files + base + made if here else 0
    for folder, needed, way_out in (
        (places.state_dir(), kept, "set FTLAUNCH_STATE_DIR to a larger disk"),
        (output, made, "choose a larger disk with --output"),
    ):
        existing = folder
        while not existing.exists():
            existing = existing.parent
        free = shutil.disk_usage(existing).free
        if free < needed + _SPARE:
            raise Refused(
                f"{folder} is on a disk with {pull.human_bytes(free)} free, "
                f"and this run needs about {pull.human_bytes(needed + _SPARE)} there",
                hint=f"make room, or {way_out}",
            )


def _new_id() -> str:
    return f"{int(time.time()):x}{random_source.token_hex(4)}"
