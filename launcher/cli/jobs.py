"""Jobs on a run that there is: merge, evaluate, resume."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from backends.errors import BadInput, Refused
from launcher.cli import options

_detach = click.option("-d", "--detach", is_flag=True, help="Return once it runs by itself.")


def _shared(command: Callable[..., Any]) -> Callable[..., Any]:
    """What these commands all take."""
    where = (options.run_argument, options.backend, options.gpu)
    for option in reversed((*where, _detach, options.yes, options.as_json)):
        command = option(command)
    return command


@click.command()
@_shared
def merge(run: str | None, **how: Any) -> int:
    """Merge RUN's adapter into its base model (default: the last run's)."""
    return _add("merge", run, **how)


@click.command()
@_shared
def evaluate(run: str | None, **how: Any) -> int:
    """Run the recipe's own evaluation on RUN's model (default: the last run's)."""
    return _add("evaluate", run, **how)


@click.command()
@_shared
def resume(run: str | None, **how: Any) -> int:
    """Go on training RUN from its newest complete checkpoint (default: the last run)."""
    return _add("resume", run, **how)


def _add(
    kind: str,
    name: str | None,
    *,
    backend: str | None,
    gpus: tuple[tuple[str, int], ...],
    detach: bool,
    yes: bool,
    as_json: bool,
) -> int:
    from launcher import launch, places
    from launcher.cli import following
    from launcher.cli.agreeing import agree
    from launcher.cli.facts import find
    from launcher.run import adding, build, conductor, further
    from launcher.run.again import train_again
    from launcher.run.loaded import Backends
    from launcher.run.placing import place
    from launcher.store import open_store

    store, backends = open_store(places.state_dir()), Backends()
    run = find(store, name)
    further.require_idle(store, run)
    settled = further.settled(store, run)
    launch.require_secrets(settled.secrets)
    after = further.last_event(store, run)
    where: dict[str, Any] = {
        "backends": backends,
        "backend": backend,
        "gpus": gpus,
        "progress": following.start_up(quiet=as_json),
    }
    if kind == "resume":
        before, checkpoint = further.resumable(store, run, backends, settled)
        there = place(store, run, before, nodes=settled.target.nodes, **where)
        if (settled.target.kind, there.settled.target.kind) == ("cpu", "cuda"):
            raise Refused(
                f"{run.name} was settled for a machine without a GPU, and would train like that",
                hint=f"begin anew: {train_again(store, run, backend=there.spec)}",
            )
        plain = adding.plain_kinds(there.settled, there.offer)
        agree(there, yes=yes, quiet=as_json, plain=" and ".join(plain))
        adding.add_jobs(
            store,
            run,
            there.settled,
            there.offer,
            resume=(before.id, checkpoint),
            backend=there.spec,
        )
        added = None
    else:
        trained = further.trained(store, run, backends)
        if kind == "merge" and settled.full:
            raise BadInput(
                f"{run.name} is a full fine-tuning: its output is the whole model already",
                hint=f"it is in {run.output_dir}/output",
            )
        make = build.merge if kind == "merge" else build.evaluate
        there = place(store, run, trained, **where)
        job = make(there.settled, trained.id)
        offer = adding.hardware_of(job, there.offer)
        agree(there, offer, yes=yes, quiet=as_json)
        added = adding.add_job(store, run, job, offer, backend=there.spec)
    conductor.start(run.id)
    return following.follow(store, run, after=after, job_id=added, detach=detach, as_json=as_json)
