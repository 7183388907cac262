"""`ftlaunch logs`: a run's log from wherever it is, and on to its end."""

from __future__ import annotations

import json
from collections.abc import Sequence

import click

from launcher import places
from launcher.cli import options
from launcher.cli.facts import find
from launcher.run.loaded import Backends
from launcher.store import JobRecord, RunRecord, Store, open_store


@click.command()
@options.run_argument
@click.option("-f", "--follow", "follow_", is_flag=True, help="Go on until the run ends.")
@click.option("-n", "--lines", type=click.IntRange(min=0), help="Only the last N lines.")
@click.option("--step", help="Only this step's log: preprocess, train, merge, evaluate, inference")
@options.as_json
def logs(run: str | None, follow_: bool, lines: int | None, step: str | None, as_json: bool) -> int:
    """Show RUN's log (default: the last run's), from wherever it is."""
    from launcher.run import inventory
    from launcher.run.logs import LogReader, lines_here

    store = open_store(places.state_dir())
    found = find(store, run)
    backends = Backends()
    kept: list[tuple[str, str, str]] = []
    seen = 0
    jobs = store.jobs(found.id)
    past = _past(jobs) if follow_ and lines is None else frozenset()
    if past:
        click.echo(f"what came before is in: ftlaunch logs {found.name}", err=True)
    for job in jobs:
        if job.files is None:
            found_lines = iter(lines_here(inventory.home(found, job), job.id, step=step))
        else:
            backend = backends.of(job)
            reader = LogReader(backend, job.files, step=step)
            found_lines = reader.lines(inventory.state(backend, job.files))
        for line in found_lines:
            seen += 1
            if job.id in past:
                continue
            if lines is None:
                _print_line(line.step, line.time, line.text, as_json=as_json)
            else:
                kept.append((line.step, line.time, line.text))
                del kept[: -lines or None]
    for one in kept:
        _print_line(*one, as_json=as_json)
    if not follow_:
        if not seen:
            click.echo(f"{found.name} has no log yet", err=True)
        return 0
    return _follow_logs(store, found, step=step, skip=seen, as_json=as_json)


def _past(jobs: Sequence[JobRecord]) -> frozenset[int]:
    """While a job is open: those before it that are over, and not part of what is being done."""
    trainings = [job.id for job in jobs if job.kind == "train" and job.open]
    alive = [job.id for job in jobs if job.open]
    if not alive:
        return frozenset()
    first = min(trainings or alive)
    return frozenset(job.id for job in jobs if job.closed_at is not None and job.id < first)


def _print_line(step: str, time: str, text: str, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"step": step, "time": time, "text": text}))
    else:
        click.echo(f"{step} | {text}")


def _follow_logs(
    store: Store, run: RunRecord, *, step: str | None, skip: int, as_json: bool
) -> int:
    from launcher.cli.telling import ways_back
    from launcher.run.follow import Follower, verdict

    count = 0
    try:
        for said in Follower(store, run, Backends(), whole=True):
            if said.line is not None and (step is None or said.line.step == step):
                count += 1
                if count > skip:
                    _print_line(said.line.step, said.line.time, said.line.text, as_json=as_json)
    except KeyboardInterrupt:
        click.echo(f"\n{run.name} goes on without you.", err=True)
        ways_back(run)
        return 130
    return verdict(store, run)
