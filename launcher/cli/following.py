"""Showing a run as it happens: a live view on a terminal, plain lines when piped."""

from __future__ import annotations

import contextlib
import json
import sys
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import click

from backends.protocol import Progress
from launcher.cli.epilogue import tell_end
from launcher.cli.telling import LAST_LINES, QUIET_EVENTS, tell_event, ways_back
from launcher.run.follow import Follower, Said, verdict
from launcher.run.loaded import Backends
from launcher.store import Event, RunRecord, Store

if TYPE_CHECKING:
    from launcher.run.logs import Line


def start_up(*, quiet: bool) -> Progress:
    """Prints what is done before a run begins, to standard error, a line for each new thing."""
    said: set[str] = set()

    def progress(what: str, *, done: int | None = None, total: int | None = None) -> None:
        if not quiet and what not in said:
            said.add(what)
            click.echo(f"  {what}", err=True)

    return progress


def follow(
    store: Store,
    run: RunRecord,
    *,
    detach: bool = False,
    as_json: bool = False,
    after: int = 0,
    logs: bool | None = None,
    job_id: int | None = None,
) -> int:
    """Show the run until it ends and return its exit code; Ctrl-C leaves it running.

    detach  return as soon as it runs by itself
    logs    print the job's own lines; by default when the output is not a terminal
    """
    live = sys.stdout.isatty() and not as_json
    show_logs = (not live and not as_json) if logs is None else logs
    screen = _screen(live=live, logs=show_logs, quiet=as_json)
    follower = Follower(
        store,
        run,
        Backends(),
        after=after,
        logs=not detach,
        until=(lambda event: event.kind == "launched" and event.job_id == _awaited(store, run))
        if detach
        else None,
    )
    try:
        with screen as show:
            for said in follower:
                show(said)
    except KeyboardInterrupt:
        click.echo(f"\n{run.name} goes on without you.", err=True)
        ways_back(run)
        return 130
    awaited = _awaited(store, run)
    if detach and any(j.id == awaited and j.launched_at and j.open for j in store.jobs(run.id)):
        if as_json:
            click.echo(json.dumps({"run": run.name, "id": run.id, "phase": "running"}))
        else:
            click.echo(f"{run.name} runs; you may close this terminal.")
            ways_back(run)
        return 0
    code = verdict(store, run, job_id=job_id)
    if as_json:
        from launcher.cli.facts import describe

        click.echo(json.dumps(describe(store, store.run(run.id)), indent=2))
    else:
        tell_end(store, run)
    return code


def _awaited(store: Store, run: RunRecord) -> int | None:
    """The job after whose launch nobody is needed: what only gets data ready starts no training."""
    jobs = [job for job in store.jobs(run.id) if job.open]
    return next((job.id for job in jobs if job.kind == "train"), jobs[0].id if jobs else None)


@contextlib.contextmanager
def _screen(*, live: bool, logs: bool, quiet: bool) -> Iterator[Callable[[Said], None]]:
    if quiet:
        yield lambda _: None
        return
    if live:
        from launcher.cli.live import Live

        with Live(logs=logs) as view:
            yield view.show
        return
    yield Plain(logs=logs).show


class Plain:
    """One line for each thing that is said."""

    def __init__(self, *, logs: bool) -> None:
        self._logs = logs
        self._last: deque[Line] = deque(maxlen=LAST_LINES)
        self._progress = ""

    def show(self, said: Said) -> None:
        """Print it."""
        if said.line is not None:
            self._last.append(said.line)
            if self._logs:
                click.echo(f"{said.line.step} | {said.line.text}")
        if said.event is not None:
            self._event(said.event)

    def _event(self, event: Event) -> None:
        if event.kind == "progress" and event.text != self._progress:
            self._progress = event.text
            click.echo(f"  {event.text}")
        if event.kind not in QUIET_EVENTS:
            tell_event(event, self._last, shown=self._logs)
        if event.kind == "launched":
            self._last.clear()
