"""Where a further job of a run goes, and what the run's recipe is there."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from backends.errors import Refused
from backends.job import Environment
from backends.offer import Need, Offer
from backends.protocol import Backend, Progress, silent
from launcher import choosing, environment, places
from launcher.commands import CONFIG, Target
from launcher.derive import derive, to_yaml
from launcher.on_finish import bills
from launcher.run import limits
from launcher.run.loaded import Backends
from launcher.run.spec import RunSpec, offer_from_json, run_from_json
from launcher.run.staging import stage
from launcher.run.surroundings import of_target
from launcher.store import JobRecord, RunRecord, Store


@dataclass(frozen=True)
class Place:
    """Where a job will run. `settled` is the run's recipe as it is there.

    agreed  it costs nothing, or no more an hour than the job it builds on did on the same backend
    """

    spec: str
    backend: Backend
    offer: Offer
    settled: RunSpec
    agreed: bool


def place(
    store: Store,
    run: RunRecord,
    before: JobRecord,
    *,
    backends: Backends,
    backend: str | None = None,
    gpus: tuple[tuple[str, int], ...] = (),
    nodes: int = 1,
    progress: Progress = silent,
) -> Place:
    """The place for a job that builds on `before`: where that was, unless another is asked for.

    Only a training takes more than one of `nodes`.
    What the provider still holds is gone back to, whatever it costs today; else an offer is chosen
    anew. Raises what `choosing.choose` and making an environment raise, Refused for other GPUs than
    those of the machine that has the files.
    """
    settled = run_from_json(store.run_spec(run.id))
    jobs = store.jobs(run.id)
    first = next((job for job in jobs if job.kind == "train"), jobs[0])
    began = offer_from_json(first.offer)
    spec = backend or before.backend
    chosen, had = backends.named(spec), offer_from_json(before.offer).of(nodes)
    same = spec == before.backend
    if same and not gpus and (before.files is not None or not bills(had)):
        if spec == first.backend and _kind(had) == _kind(began):
            return Place(spec, chosen, had, settled, agreed=True)
        offer, need = had, Need(cpu_only=had.gpu is None)
    else:
        need = replace(_need(settled, gpus, same=same), nodes=nodes)
        offer = choosing.choose(chosen, need, cap=settled.max_price, dry=False).offer
        _require_its_machine(run, before, had, offer, same=same)
    there = resettled(
        run.id,
        settled,
        began=began,
        offer=offer,
        need=replace(need, nodes=nodes),
        progress=progress,
    )
    cheap = (
        same
        and offer.price.currency == had.price.currency
        and offer.price.amount <= (had.price.amount)
    )
    return Place(spec, chosen, offer, there, agreed=cheap or not bills(offer))


def resettled(
    run_id: str,
    settled: RunSpec,
    *,
    began: Offer,
    offer: Offer,
    need: Need,
    progress: Progress,
) -> RunSpec:
    """A run's recipe as it is on another offer than the one that it was settled for."""
    there = _there(settled, began, offer, need, progress)
    return _restaged(there, places.run_dir(run_id) / "staged")


def _kind(offer: Offer) -> tuple[str | None, int]:
    return offer.gpu, offer.count


def _require_its_machine(
    run: RunRecord, before: JobRecord, had: Offer, offer: Offer, *, same: bool
) -> None:
    """Files that are held on a machine are used on that one, whatever GPUs are asked for."""
    if same and before.files is not None and bills(had) and _kind(offer) != _kind(had):
        raise Refused(
            f"the files of {run.name} are on a machine with {had.gpu or 'no GPU'} x {had.count}, "
            "and a job that builds on them runs there",
            hint="leave -g out, or choose another backend with -b",
        )


def _need(settled: RunSpec, gpus: tuple[tuple[str, int], ...], *, same: bool) -> Need:
    """What is asked for now; what was asked for then holds for the provider it was asked of."""
    asked = settled.need or Need()
    elsewhere = Need(capped=asked.capped)
    if gpus:
        return replace(
            asked if same else elsewhere,
            gpus=tuple(gpu for gpu in gpus if gpu[0].lower() != "cpu"),
            cpu_only=any(kind.lower() == "cpu" for kind, _ in gpus),
        )
    return asked if same else replace(elsewhere, cpu_only=settled.target.kind == "cpu")


def _there(settled: RunSpec, began: Offer, offer: Offer, need: Need, progress: Progress) -> RunSpec:
    """The recipe for another machine: what depends on its GPUs is settled anew."""
    cpu = offer.gpu is None or need.cpu_only
    target = Target("cpu") if cpu else Target("cuda", gpus=offer.count, nodes=need.nodes)
    config = settled.config
    if cpu:
        config, _ = derive(config, workdir=settled.workdir, cpu=True)
    limits.whole(settled.max_duration, settled.max_cost, offer)  # dollars, if it must be
    # The first machine's own variables go, unless the user has said something else for them.
    ours = of_target(settled.target, began)
    kept = {name: value for name, value in settled.env.items() if ours.get(name) != value}
    return replace(
        settled,
        target=target,
        config=config,
        environment=_software(config, offer, cpu=cpu, image=settled.image, progress=progress),
        env={**of_target(target, offer), **kept},
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
    config: Mapping[str, object],
    offer: Offer,
    *,
    cpu: bool,
    image: str | None,
    progress: Progress,
) -> Environment:
    chosen = environment.choose(config, gpu=not cpu)
    if not offer.here:
        return environment.for_far(chosen, image=image)
    if not cpu:
        environment.require_cuda13(environment.detect())
    return Environment(prefix=environment.ensure(chosen, progress=progress), lock=chosen.lock)
