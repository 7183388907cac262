"""Where a further job of a run goes, and what the run's recipe is there."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from backends.job import Environment
from backends.offer import Need, Offer
from backends.protocol import Backend, Progress, silent
from launcher import choosing, environment, places
from launcher.commands import CONFIG, Target
from launcher.derive import derive, to_yaml
from launcher.on_finish import bills
from launcher.run.loaded import Backends
from launcher.run.spec import RunSpec, offer_from_json
from launcher.run.staging import stage
from launcher.run.surroundings import of_target
from launcher.store import JobRecord


@dataclass(frozen=True)
class Place:
    """Where a job will run. `settled` is the run's recipe as it is there."""

    spec: str
    backend: Backend
    offer: Offer
    settled: RunSpec


def place(
    settled: RunSpec,
    before: JobRecord,
    *,
    run_id: str,
    backends: Backends,
    backend: str | None = None,
    gpus: tuple[tuple[str, int], ...] = (),
    progress: Progress = silent,
) -> Place:
    """The place for a job that builds on `before`: where that was, unless another is asked for.

    What the provider still holds is gone back to, whatever it costs today; else an offer is chosen
    anew. Raises what `choosing.choose` and making an environment raise.
    """
    spec = backend or before.backend
    chosen = backends.named(spec)
    had = offer_from_json(before.offer)
    same = spec == before.backend
    if same and not gpus and (before.files is not None or not bills(had)):
        return Place(spec, chosen, had, settled)
    need = _need(settled.need or Need(), gpus)
    offer = choosing.choose(chosen, need, cap=settled.max_price, dry=False).offer
    there = _there(settled, offer, need, progress)
    return Place(spec, chosen, offer, _restaged(there, places.run_dir(run_id) / "staged"))


def _need(need: Need, gpus: tuple[tuple[str, int], ...]) -> Need:
    if not gpus:
        return need
    return replace(
        need,
        gpus=tuple(gpu for gpu in gpus if gpu[0].lower() != "cpu"),
        cpu_only=any(kind.lower() == "cpu" for kind, _ in gpus),
    )


def _there(settled: RunSpec, offer: Offer, need: Need, progress: Progress) -> RunSpec:
    """The recipe for another machine: what depends on its GPUs is settled anew."""
    cpu = offer.gpu is None or need.cpu_only
    target = Target(kind="cpu", gpus=0) if cpu else Target(kind="cuda", gpus=offer.count)
    config = settled.config
    if cpu:
        config, _ = derive(config, workdir=settled.workdir, cpu=True)
    return replace(
        settled,
        target=target,
        config=config,
        environment=_software(config, offer, cpu=cpu, progress=progress),
        env=_variables(settled.env, target, offer),
    )


def _restaged(settled: RunSpec, folder: Path) -> RunSpec:
    """With the config's file as the config is now, beside the one of the first machine."""
    at, content = settled.workdir / CONFIG, to_yaml(settled.config).encode()
    digest = hashlib.sha256(content).hexdigest()
    if any(file.at == at and file.sha256 == digest for file in settled.small):
        return settled
    mine = stage(folder / digest[:12], at, content)
    return replace(settled, small=(mine, *(file for file in settled.small if file.at != at)))


def _software(
    config: Mapping[str, object], offer: Offer, *, cpu: bool, progress: Progress
) -> Environment:
    chosen = environment.choose(config, gpu=not cpu)
    if not offer.here:
        return environment.for_far(chosen)
    if not cpu:
        environment.require_cuda13(environment.detect())
    return Environment(prefix=environment.ensure(chosen, progress=progress), lock=chosen.lock)


def _variables(env: Mapping[str, str], target: Target, offer: Offer) -> dict[str, str]:
    """The run's variables, with those of the first machine's hardware taken out."""
    ours = {"CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "OMP_WAIT_POLICY", "CUDA_DEVICE_ORDER"}
    kept = {name: value for name, value in env.items() if name not in ours}
    return {**of_target(target, offer), **kept}
