"""From a plan to a run in the store that goes on by itself."""

from __future__ import annotations

import itertools
import os
import secrets as random_source
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from backends.errors import BadInput, CredentialsMissing, FtlaunchError, Refused
from backends.job import Cache, Environment, LocalFile
from backends.protocol import Progress
from launcher import bundle as bundling
from launcher import environment, places
from launcher.commands import CONFIG
from launcher.derive import to_yaml
from launcher.planning import Prepared
from launcher.run import build, conductor, pull, spec
from launcher.run.adding import add_jobs, jobs_after
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
        workload=_workload(prepared),
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


def _workload(prepared: Prepared) -> str | None:
    """What the run's measurements will be held against; None where nothing can be estimated."""
    from launcher.quotes import learning, planned, workload

    try:
        work = workload.of(prepared.recipe)
    except FtlaunchError:
        return None
    size = prepared.bundle.size_bytes
    return learning.to_text(learning.Recorded(work, planned.from_hub(prepared), size))


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


def planned_jobs(prepared: Prepared) -> list[spec.JobSpec]:
    """The jobs as they will be launched, for a dry run to print."""
    run = prepared.run
    apart = build.prepares_apart(run, prepared.offer)
    before = [build.prepare(run)] if apart else []
    return [*before, build.train(run, prepared=0 if apart else None), *jobs_after(run, 0)]


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
