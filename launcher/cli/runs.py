"""Commands on runs: ps, wait, stop, pull, rm."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from backends.errors import BadInput
from launcher import places
from launcher.cli import options
from launcher.cli.facts import describe, find, row_of
from launcher.cli.tables import table
from launcher.run.loaded import Backends
from launcher.store import RunRecord, Store, open_store

PAGE = 50


@click.command()
@click.option("-a", "--all", "everything", is_flag=True, help="Also runs that have ended.")
@click.option("--page", default=1, type=click.IntRange(min=1), help=f"With -a: {PAGE} runs a page.")
@click.option("--adopt", is_flag=True, help="Finish from here what other computers began.")
@click.option(
    "-b",
    "--backend",
    metavar="NAME",
    shell_complete=options.complete_backend,
    help="With --adopt: look only there.",
)
@click.option(
    "-s",
    "--secret",
    "secrets",
    multiple=True,
    metavar="NAME",
    help="With --adopt: a variable of this terminal that later jobs may have.",
)
@options.as_json
def ps(
    everything: bool,
    page: int,
    adopt: bool,
    backend: str | None,
    secrets: tuple[str, ...],
    as_json: bool,
) -> int:
    """List runs that are alive, the youngest first.

    With --adopt, first take over what other computers of the same account began. Exits 8 when
    something is left that may bill.
    """
    store = open_store(places.state_dir())
    if not adopt:
        if backend is not None:
            raise BadInput("-b says where --adopt looks", hint="use: ftlaunch ps --adopt -b NAME")
        _list(store, everything=everything, page=page, as_json=as_json)
        return 0
    from launcher.cli.adopting import adopt_all

    found = adopt_all(store, backend, secrets)
    if as_json:
        rows = _rows(store, everything=everything, page=page)
        click.echo(json.dumps({**found.as_json(), "runs": rows}, indent=2))
    else:
        found.tell()
        _list(store, everything=everything, page=page, as_json=False)
    return found.exit_code


def _runs(store: Store, *, everything: bool, page: int) -> Sequence[RunRecord]:
    offset = (page - 1) * PAGE if everything else 0
    return store.runs(alive=not everything, limit=PAGE if everything else -1, offset=offset)


def _rows(store: Store, *, everything: bool, page: int) -> list[dict[str, Any]]:
    return [row_of(store, run) for run in _runs(store, everything=everything, page=page)]


def _list(store: Store, *, everything: bool, page: int, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(_rows(store, everything=everything, page=page), indent=2))
        return
    runs = _runs(store, everything=everything, page=page)
    if not runs:
        click.echo(_no_runs(store.count_runs(), page=page, everything=everything))
        _tell_remainders(store)
        return
    rows = [("NAME", "STATE", "JOB", "BACKEND", "AGE", "COST", "RECIPE")]
    for run in runs:
        row = row_of(store, run)
        cost = row["cost"] or ""
        since = age(run.created_at)
        rows.append((run.name, row["phase"], row["job"], run.backend, since, cost, run.recipe))
    table(rows)
    if everything:
        pages = -(-store.count_runs() // PAGE)
        if pages > 1:
            click.echo(f"page {page} of {pages}" + (" (--page N)" if page < pages else ""))
    _tell_remainders(store)


def _tell_remainders(store: Store) -> None:
    from launcher.run.remaining import remainders

    for left in remainders(store):
        click.echo(f"{left.sentence()}; {left.hint()}", err=True)


def _no_runs(total: int, *, page: int, everything: bool) -> str:
    """Why the list is empty; `total` counts the runs that have ended too."""
    if not total:
        return "there is no run yet; start one with: ftlaunch train quickstart"
    if everything:
        pages = -(-total // PAGE)
        return f"there is no page {page}: the last one is {pages}"
    return f"no run is alive; {total} ended (ftlaunch ps -a)"


def age(when: datetime) -> str:
    """`3m`, `2h`, `5d`."""
    seconds = (datetime.now(UTC) - when).total_seconds()
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{int(seconds // length)}{unit}"
    return f"{int(seconds)}s"


@click.command()
@options.run_argument
@click.option("--timeout", type=options.Duration(), help="Give up waiting after this long.")
@options.as_json
def wait(run: str | None, timeout: timedelta | None, as_json: bool) -> int:
    """Wait for RUN's end (default: the last) and exit with its verdict."""
    import time

    from launcher.cli import epilogue
    from launcher.run import conductor, further
    from launcher.run.follow import Follower, verdict

    store = open_store(places.state_dir())
    found = find(store, run)
    end = None if timeout is None else time.monotonic() + timeout.total_seconds()
    after = further.last_event(store, found)
    if any(job.open for job in store.jobs(found.id)):
        conductor.start(found.id)
    follower = Follower(store, found, Backends(), after=after, logs=False)
    for _ in follower.rounds():
        if end is not None and time.monotonic() > end:
            raise BadInput(
                f"{found.name} has not ended yet",
                hint=f"it goes on; stop it with: ftlaunch stop {found.name}",
            )
    facts = describe(store, store.run(found.id))
    if as_json:
        click.echo(json.dumps(facts, indent=2))
    else:
        code = verdict(store, found)
        why = epilogue.reason(store.jobs(found.id)) if code else ""
        click.echo(f"{found.name}: {facts['phase']}" + (f" ({why})" if why else ""))
        if code:
            click.echo(f"  its log: ftlaunch logs {found.name}", err=True)
        epilogue.tell_end(store, found)
    return verdict(store, found)


@click.command()
@options.run_argument
@click.option("--now", "at_once", is_flag=True, help="Kill it; nothing is saved.")
@click.option(
    "--grace",
    type=options.Duration(),
    default="15m",
    show_default=True,
    help="How long a checkpoint may take.",
)
@options.as_json
def stop(run: str | None, at_once: bool, grace: timedelta, as_json: bool) -> int:
    """Stop RUN (default: the last): ask for a checkpoint, wait for it, end it, pull it."""
    from launcher.cli import epilogue
    from launcher.run.stop import stop as stop_run

    store = open_store(places.state_dir())
    found = find(store, run)
    report = stop_run(store, found, Backends(), grace=timedelta() if at_once else grace)
    if as_json:
        click.echo(json.dumps(describe(store, store.run(found.id)), indent=2))
    else:
        click.echo(report)
        epilogue.tell_end(store, found)
    return 0


@click.command()
@options.run_argument
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Where to put it.")
@click.option("--all", "everything", is_flag=True, help="Checkpoints too.")
@options.as_json
def pull(run: str | None, output: Path | None, everything: bool, as_json: bool) -> None:
    """Bring RUN's results here (default: the last), checked against the manifest."""
    from launcher.run import pull as pulling
    from launcher.run.copying import copied
    from launcher.run.spec import job_from_json

    store = open_store(places.state_dir())
    found = find(store, run)
    backends = Backends()
    into = (output or found.output_dir).absolute()
    pulling.check_writable(into)
    results = []
    for job in store.jobs(found.id):
        if job.kind == "inference":
            continue
        if job.files is None:
            if (here := copied(found, job, into)) is not None:
                results.append(
                    {"job": job.kind, "files": len(here.files), "verified": here.verified}
                )
                _say(f"{job.kind}: here already: {here.sentence()}", quiet=as_json)
            continue
        patterns = ("output/**",) if everything else job_from_json(job.spec).pull
        pulled = pulling.pull(backends.of(job), job, into, patterns=patterns)
        # Only what is in its own place can be built on later, and let go of at the provider.
        if job.ended_at is not None and into == found.output_dir.absolute():
            store.mark_pulled(job.id)
        results.append({"job": job.kind, "files": len(pulled.files), "verified": pulled.verified})
        _say(f"{job.kind}: {pulled.sentence()}", quiet=as_json)
    if not results:
        raise BadInput(f"{found.name} has no files to pull")
    if as_json:
        click.echo(json.dumps({"into": str(into), "jobs": results}, indent=2))


def _say(text: str, *, quiet: bool) -> None:
    if not quiet:
        click.echo(text)


@click.command()
@click.argument("run", shell_complete=options.complete_run)
@options.yes
@options.as_json
def rm(run: str, yes: bool, as_json: bool) -> None:
    """Forget RUN and remove what is kept for it; results already pulled stay."""
    import shutil

    from launcher.cli.agreeing import confirm

    store = open_store(places.state_dir())
    found = store.run(run)
    jobs = store.jobs(found.id)
    alive = [job for job in jobs if job.closed_at is None]
    if alive:
        raise BadInput(
            f"{found.name} is alive", hint=f"end it first with: ftlaunch stop {found.name}"
        )
    unpulled = [job.kind for job in jobs if job.files is not None and job.pulled_at is None]
    if unpulled and not yes:
        confirm(f"the results of {', '.join(unpulled)} were not pulled and will be gone; go on?")
    backends = Backends()
    # Forgotten last: what a provider does not let go of now can be asked for again by its name.
    for job in jobs:
        if job.files is not None:
            backends.of(job).discard(job.files)
    store.remove_run(found.id)
    shutil.rmtree(places.run_dir(found.id), ignore_errors=True)
    if as_json:
        click.echo(json.dumps({"removed": found.name}))
    else:
        click.echo(f"{found.name} is removed; what was pulled stays in {found.output_dir}")
