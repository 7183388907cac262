"""A recipe as it is on one machine: its hardware, variables, software and steps, settled."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from backends.errors import BadInput, Refused
from backends.job import Environment
from backends.offer import Need, Offer
from backends.protocol import Backend
from launcher import bundle as bundling
from launcher import environment, preflight, several
from launcher.changes import Change
from launcher.commands import CONFIG, Target
from launcher.derive import derive
from launcher.recipe.model import holds_a_secret, kept_secret
from launcher.request import Request
from launcher.run import limits, pull, spec
from launcher.run.surroundings import of_target

if TYPE_CHECKING:
    from launcher.recipe import Recipe

_PARAMETERS = re.compile(r"(?<![0-9A-Za-z])(\d+(?:\.\d+)?)[bB](?![0-9A-Za-z])")
"""The size in a model's name: `Llama-3.1-8B`."""

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class Place:
    """Where the run may go."""

    spec: str
    backend: Backend
    offer: Offer
    doubt: str


@dataclass(frozen=True)
class Settled:
    """What depends on the machine."""

    run: spec.RunSpec
    problems: tuple[preflight.Problem, ...]
    environment: environment.Spec
    model: str | None
    changes: tuple[Change, ...]


@dataclass(frozen=True)
class Read:
    """A recipe with all that it names, before a machine is chosen."""

    request: Request
    found: Recipe
    passed: preflight.Passed | None
    bundle: bundling.Bundle

    def settled(self, place: Place) -> Settled:
        """What will be done on that machine. Raises Refused, BadInput, Capped."""
        request, found, passed, bundle = self.request, self.found, self.passed, self.bundle
        offer = place.offer
        target = _target(request, found, offer)
        several.require(bundle.config, target)
        need = need_of(request, found)
        spot, recover = need.spot, need.recover
        problems = passed.on(offer.gpu, target, spot=spot, recover=recover) if passed else []
        config, changes = derive(bundle.config, workdir=bundle.workdir, cpu=target.kind == "cpu")
        if target.kind == "cpu":
            _require_memory(str(config.get("base_model")), offer)
        model = _model(found, config)
        if model is not None:
            config, change = _with_model(config, str(config["base_model"]))
            changes = (*changes, change)
        if any(file.at == bundle.workdir / CONFIG for file in bundle.files):
            raise Refused(
                f"the recipe brings a file named {CONFIG}, the name of the job's own config",
                hint="give the file another name",
            )
        if target.kind != "cpu" and offer.here:
            environment.require_cuda13(environment.detect())
        run = spec.RunSpec(
            recipe=found.origin,
            config=config,
            workdir=bundle.workdir,
            small=tuple(file for file in bundle.files if not bundle.is_data(file)),
            data=tuple(file for file in bundle.files if bundle.is_data(file)),
            caches=bundle.caches,
            target=target,
            environment=Environment(),
            env=_variables(found, request, bundle, target, offer),
            secrets=_secrets(found, request),
            kept_secrets=_kept_secrets(found, request, place.spec),
            image=found.launch.image,
            steps=_steps(found, request),
            extra=request.extra,
            artifacts=request.artifacts or tuple(found.launch.artifacts),
            max_duration=request.max_duration or found.launch.budget.max_duration,
            max_cost=request.max_cost or found.launch.budget.max_cost,
            on_finish=request.on_finish or found.launch.on_finish,
            need=need,
            max_price=request.max_price or found.launch.budget.max_price,
        )
        limits.whole(run.max_duration, run.max_cost, offer)  # dollars, where the account has others
        return Settled(
            run=run,
            problems=tuple(problems),
            environment=environment.choose(config, gpu=target.kind != "cpu"),
            model=model,
            changes=(*found.changes, *bundle.changes, *changes),
        )


def need_of(request: Request, found: Recipe) -> Need:
    """The hardware that was asked for."""
    wanted = request.gpus or found.launch.hardware.gpus
    hardware, budget = found.launch.hardware, found.launch.budget
    store = request.store or hardware.store
    spot = request.spot or hardware.spot
    limits_of_dollars = (request.max_price, request.max_cost, budget.max_price, budget.max_cost)
    return Need(
        gpus=tuple(gpu for gpu in wanted if gpu[0].lower() != "cpu"),
        cpu_only=any(kind.lower() == "cpu" for kind, _ in wanted),
        cpus=hardware.cpu,
        memory_gib=hardware.memory,
        disk_gib=hardware.disk,
        spot=spot,
        # Who names a place for checkpoints beside spot capacity wants them to be gone on from.
        recover=request.recover or hardware.recover or (spot and bool(store)),
        store=store,
        regions=request.regions or tuple(hardware.regions),
        nodes=hardware.nodes,
        capped=any(limit is not None for limit in limits_of_dollars),
        plain_memory_gib=_plain_memory(found),
    )


_LEAST_PLAIN_GIB = 16


def _plain_memory(found: Recipe) -> int | None:
    """For preprocessing and merging: the model at two bytes a parameter, half as much again beside.

    None where the model's name does not say its size: the provider's own default then holds.
    """
    sizes = _PARAMETERS.findall(str(found.config.get("base_model")))
    if not sizes:
        return None
    return max(_LEAST_PLAIN_GIB, math.ceil(float(sizes[-1]) * 2e9 * 1.5 / 1024**3) + 4)


def _target(request: Request, found: Recipe, offer: Offer) -> Target:
    wanted = request.gpus or found.launch.hardware.gpus
    asked_cpu = any(kind.lower() == "cpu" for kind, _ in wanted)
    nodes = found.launch.hardware.nodes
    if offer.gpu is None or asked_cpu:
        return Target(kind="cpu", gpus=0, nodes=nodes)
    return Target(kind="cuda", gpus=offer.count, nodes=nodes)


def _require_memory(model: str, offer: Offer) -> None:
    """Refuse a model whose weights alone, 4 bytes a parameter on a CPU, exceed the memory."""
    sizes = _PARAMETERS.findall(model)
    if not sizes or offer.memory_gib is None:
        return
    needed = float(sizes[-1]) * 4e9
    if needed > offer.memory_gib * 1024**3:
        raise Refused(
            f"{model} takes about {pull.human_bytes(int(needed))} of memory without a GPU, "
            f"and there are {pull.human_bytes(int(offer.memory_gib * 1024**3))}",
            hint="run it where there is a GPU, or take a smaller model: --set base_model=...",
        )


def _model(found: Recipe, config: Mapping[str, object]) -> str | None:
    """Where the base model comes from, when the recipe says so for the one it names."""
    text = found.launch.models.get(str(config.get("base_model")))
    if text is not None:
        from launcher import models

        models.parse(text)
    return text


def _with_model(config: dict[str, object], before: str) -> tuple[dict[str, object], Change]:
    place = _model_place(before)
    changed = {
        key: place
        if key in {"base_model", "tokenizer_config", "base_model_config"} and value == before
        else value
        for key, value in config.items()
    }
    why = "the recipe says which package brings this model, so that no hub is needed"
    return changed, Change(key="base_model", before=before, after=place, why=why)


def _model_place(name: str) -> str:
    return "./models/" + re.sub(r"[^A-Za-z0-9._-]+", "--", name)


def _variables(
    found: Recipe, request: Request, bundle: bundling.Bundle, target: Target, offer: Offer
) -> dict[str, str]:
    variables: dict[str, str] = {}
    if bundle.offline:
        variables["HF_HUB_OFFLINE"] = "1"
    variables.update(of_target(target, offer))
    for name in request.env:
        if holds_a_secret(name):
            raise BadInput(
                f"{name} looks like a secret, and what -e gives is written down",
                hint=f"set it in this terminal and use: -s {name}",
            )
    return {**variables, **found.launch.env, **request.env}


def _secrets(found: Recipe, request: Request) -> tuple[str, ...]:
    """Names of variables of this terminal."""
    for name in request.secrets:
        if not _VARIABLE.fullmatch(name) and not kept_secret(name):
            raise BadInput(
                f"-s takes the name of a variable, and {name.partition('=')[0]!r} "
                "with what follows is none",
                hint="set the variable in this terminal and give its name only: -s HF_TOKEN",
            )
    return tuple(name for name in secret_names(found, request) if not kept_secret(name))


def secret_names(found: Recipe, request: Request) -> list[str]:
    """Of this terminal and of providers, as the recipe and the command line name them."""
    return list(dict.fromkeys((*found.launch.secrets, *request.secrets)))


def _kept_secrets(found: Recipe, request: Request, backend_spec: str) -> tuple[str, ...]:
    """Secrets that the provider keeps. Raises Refused for one that another provider keeps."""
    kept = []
    for text in secret_names(found, request):
        if (told := kept_secret(text)) is None:
            continue
        if told[0] != backend_spec.partition(":")[0]:
            raise Refused(
                f"the secret {text} is kept at {told[0]}, and this run goes to {backend_spec}",
                hint="name a variable of this terminal instead: -s NAME",
            )
        kept.append(text)
    return tuple(kept)


def _steps(found: Recipe, request: Request) -> spec.Steps:
    asked = found.launch.steps
    steps = spec.Steps(asked.preprocess, asked.train, asked.merge, asked.evaluate)
    if request.only == "preprocess":
        steps = spec.Steps(preprocess=True, train=False, merge=False, evaluate=False)
    if request.merge is not None:
        steps = replace(steps, merge=request.merge)
    if request.evaluate is not None:
        steps = replace(steps, evaluate=request.evaluate)
    return steps
