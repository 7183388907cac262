"""Jobs on a run that there is: merge, evaluate, resume."""

from __future__ import annotations

from typing import Any

import click

from backends.errors import BadInput
from launcher.cli import options

_detach = click.option("-d", "--detach", is_flag=True, help="Return once it runs by itself.")


@click.command()
@options.run_argument
@_detach
@options.as_json
def merge(run: str | None, detach: bool, as_json: bool) -> int:
    """Merge RUN's adapter into its base model (default: the last run's)."""
    return _add("merge", run, detach=detach, as_json=as_json)


@click.command()
@options.run_argument
@_detach
@options.as_json
def evaluate(run: str | None, detach: bool, as_json: bool) -> int:
    """Run the recipe's own evaluation on RUN's model (default: the last run's)."""
    return _add("evaluate", run, detach=detach, as_json=as_json)


@click.command()
@options.run_argument
@_detach
@options.as_json
def resume(run: str | None, detach: bool, as_json: bool) -> int:
    """Go on training RUN from its newest complete checkpoint (default: the last run)."""
    return _add("resume", run, detach=detach, as_json=as_json)


def _add(kind: str, name: str | None, **how: Any) -> int:
    from launcher import launch, places
    from launcher.cli import following
    from launcher.cli.facts import backend_of, find
    from launcher.run import build, conductor, further
    from launcher.store import open_store

    store = open_store(places.state_dir())
    run = find(store, name)
    backend = backend_of(run)
    further.require_idle(store, run)
    settled = further.settled(store, run)
    launch.require_secrets(settled.secrets)
    after = further.last_event(store, run)
    if kind == "resume":
        first = further.resume(store, run, backend, settled)
    else:
        trained = further.trained(store, run, backend)
        if kind == "merge" and settled.full:
            raise BadInput(
                f"{run.name} is a full fine-tuning: its output is the whole model already",
                hint=f"it is in {run.output_dir}/output",
            )
        make = build.merge if kind == "merge" else build.evaluate
        first = launch.add_job(store, run, make(settled, trained.id), further.offer_of(trained))
    conductor.start(run.id)
    alone = None if kind == "resume" else first
    return following.follow(store, run, after=after, job_id=alone, **how)
