"""From what the user typed to a plan: everything settled, nothing done yet."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from backends.errors import BadInput, FtlaunchError
from backends.offer import Offer
from backends.protocol import Backend
from backends.registry import load as load_backend
from launcher import bundle as bundling
from launcher import choosing, environment, places, preflight, recipe
from launcher.changes import Change
from launcher.plan_text import hardware
from launcher.recipe.model import kept_secret
from launcher.request import Request
from launcher.run import pull, spec
from launcher.settling import Place, Read, need_of, secret_names
from launcher.store import Store

if TYPE_CHECKING:
    from launcher.quotes.automatic import Candidate, Order
    from launcher.recipe import Recipe

AUTO = "auto"
"""What `-b` takes for the best offer of all backends."""

LEAST_WAIT = timedelta(seconds=30)
"""What a queue must be waited in at least: until a container says that it runs it looks queued."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")


@dataclass(frozen=True)
class Prepared:
    """A plan: everything that will be done, before any of it is."""

    request: Request
    recipe: Recipe
    bundle: bundling.Bundle
    problems: tuple[preflight.Problem, ...]
    not_checked: tuple[str, ...]
    """What the hub and W&B did not answer; empty for a dry run, which asks nothing."""
    backend: Backend
    backend_spec: str
    offer: Offer
    doubt: str
    environment: environment.Spec
    model: str | None
    changes: tuple[Change, ...]
    run: spec.RunSpec
    name: str
    output: Path
    order: Order | None = None
    """With `-b auto`: all places that it may go to, and why not to others."""


def prepare(request: Request, store: Store, *, dry: bool = False) -> Prepared:
    """Read the recipe and everything it names, check it, and settle what will be done.

    dry  it will not be done: where the provider cannot be asked, its dated prices will do
    Raises Refused for what the recipe, its data or this machine does not allow, BadInput for the
    command line, Capped for a limit that cannot hold, NoCapacity when there is no such hardware.
    """
    found = recipe.load(
        request.source,
        profile=request.profile,
        sets=request.sets,
        data=request.data,
        cwd=Path.cwd(),
    )
    backend_spec = request.backend or found.launch.backend or "local"
    if request.max_wait is not None and backend_spec != AUTO:
        raise BadInput(
            "--max-wait says when the next offer is tried, and there is only one",
            hint=f"let the offers of all backends be tried: -b {AUTO}",
        )
    if request.max_wait is not None and request.max_wait < LEAST_WAIT:
        raise BadInput(
            f"--max-wait is {request.max_wait}, and a container may take that long to start",
            hint=f"give it {LEAST_WAIT.total_seconds():.0f}s or more",
        )
    passed = preflight.passed(found, secrets=request.secrets) if request.preflight else None
    read = Read(request, found, passed, bundling.gather(found))
    place, left_out, order = _places(read, backend_spec, store, dry=dry)
    settled = read.settled(place)
    problems: tuple[preflight.Problem, ...] = settled.problems
    not_checked: tuple[str, ...] = ()
    if passed is not None and not dry:
        offers = [place.offer, *(one.quote.offer for one in (order.candidates if order else ()))]
        here = all(offer.here for offer in offers)
        problems, not_checked = _asked_online(read, passed, settled.problems, here=here)
    run = replace(
        settled.run,
        elsewhere=() if order is None else tuple(map(_elsewhere, order.candidates[1:])),
        left_out=left_out,
        max_wait=request.max_wait,
    )
    name = _name(store, request, found)
    output = (request.output or Path("runs") / name).absolute()
    pull.check_writable(output)
    return Prepared(
        request=request,
        recipe=found,
        bundle=read.bundle,
        problems=problems,
        not_checked=not_checked,
        backend=place.backend,
        backend_spec=place.spec,
        offer=place.offer,
        doubt=place.doubt,
        environment=settled.environment,
        model=settled.model,
        changes=settled.changes,
        run=run,
        name=name,
        output=output,
        order=order,
    )


def _asked_online(
    read: Read,
    passed: preflight.Passed,
    known: tuple[preflight.Problem, ...],
    *,
    here: bool,
) -> tuple[tuple[preflight.Problem, ...], tuple[str, ...]]:
    """The warnings with what the hub and W&B say, and what they did not answer.

    here  it runs on this machine whatever comes, so that its own login counts
    Raises RefusedByPreflight where the run would end when it downloads or uploads.
    """
    from launcher.preflight import online

    request, launch = read.request, read.found.launch
    run = online.Run(
        here=here, env={**launch.env, **request.env}, trains=request.only != "preprocess"
    )
    answered = online.examine(passed.look, run)
    return (
        tuple(preflight.require_ok(answered.with_known(known))),
        answered.not_checked,
    )


def _places(
    read: Read, backend_spec: str, store: Store, *, dry: bool
) -> tuple[Place, tuple[str, ...], Order | None]:
    """Where the run goes, why not to others, and where else it may go, in order."""
    request, found = read.request, read.found
    if backend_spec != AUTO:
        backend = load_backend(backend_spec, state_dir=places.backends_dir())
        cap = request.max_price or found.launch.budget.max_price
        choice = choosing.choose(backend, need_of(request, found), cap=cap, dry=dry)
        return Place(backend_spec, backend, choice.offer, choice.doubt), (), None
    if bucket := need_of(request, found).store:
        raise BadInput(
            f"{bucket} is for jobs of one backend, and auto takes several",
            hint="name it: -b skypilot",
        )
    order = _ordered(read, store, dry=dry)
    possible, left_out, first_error = [], list(order.left_out), None
    for one in order.candidates:
        place = Place(one.spec, one.backend, one.quote.offer, one.doubt)
        try:
            read.settled(place)
        except FtlaunchError as error:
            first_error = first_error or error
            left_out.append(f"{one.spec}, {hardware(place.offer)}: {error.message}")
        else:
            possible.append(place)
    if not possible:
        assert first_error is not None
        raise first_error
    kept = [(place.spec, place.offer) for place in possible]
    shown = tuple(one for one in order.candidates if (one.spec, one.quote.offer) in kept)
    texts = tuple(left_out)
    return possible[0], texts, replace(order, candidates=shown, left_out=texts)


def _elsewhere(one: Candidate) -> spec.Elsewhere:
    quote = one.quote
    cost = None if quote.cost is None else quote.offer.dollars(quote.cost[1])
    time = None if quote.hours is None else timedelta(hours=quote.hours.middle)
    return spec.Elsewhere(one.spec, quote.offer, cost, time)


def _ordered(read: Read, store: Store, *, dry: bool) -> Order:
    from launcher.quotes import automatic, learning, quote

    request, found = read.request, read.found
    if request.only is not None:
        raise BadInput(
            f"-b {AUTO} chooses where to train, and this only prepares the data",
            hint="leave -b out to do it here",
        )
    budget = found.launch.budget
    keepers = {kept[0] for text in secret_names(found, request) if (kept := kept_secret(text))}
    model = str(found.config.get("base_model"))
    return automatic.order(
        found,
        need_of(request, found),
        quote.Caps(
            request.max_price or budget.max_price,
            request.max_cost or budget.max_cost,
            request.max_duration or budget.max_duration,
        ),
        dry=dry,
        upload_bytes=read.bundle.size_bytes,
        hub=model not in found.launch.models and not (found.base_dir / model).is_dir(),
        only=next(iter(keepers), None),
        learned=learning.of(store.measurements()),
    )


def _name(store: Store, request: Request, found: Recipe) -> str:
    if request.name is not None:
        if not _NAME.fullmatch(request.name):
            raise BadInput(
                f"{request.name!r} cannot be a run's name",
                hint="use letters, digits, dots, dashes and underscores, at most 40, "
                "starting with a letter or digit",
            )
        if store.has_name(request.name):
            raise BadInput(
                f"there is a run named {request.name!r} already",
                hint=f"choose another with -n, or remove it with: ftlaunch rm {request.name}",
            )
        return request.name
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", found.name).strip("-._")[:32] or "run"
    number = 1
    while store.has_name(f"{stem}-{number}") or (Path("runs") / f"{stem}-{number}").exists():
        number += 1
    return f"{stem}-{number}"
