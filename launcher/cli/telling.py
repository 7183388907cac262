"""What is printed about a run: its events, the way back to it, the end of a failed log."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from launcher.run import marks
from launcher.store import Event, RunRecord

if TYPE_CHECKING:
    from launcher.run.logs import Line

LAST_LINES = 20
"""How much of a failed job's log is shown."""

QUIET_EVENTS = frozenset({"progress", "released"}) | marks.QUIET


def ways_back(run: RunRecord) -> None:
    """How to return to a run that goes on."""
    click.echo(f"  watch it:     ftlaunch logs -f {run.name}", err=True)
    click.echo(f"  wait for it:  ftlaunch wait {run.name}", err=True)
    click.echo(f"  stop it:      ftlaunch stop {run.name}", err=True)


def tell_event(
    event: Event,
    last: deque[Line],
    *,
    shown: bool,
    echo: Callable[[str, bool], None] = lambda text, bad: click.echo(text, err=bad),
) -> None:
    """Print an event; a failure comes with the last lines of the log, unless they were shown.

    echo  prints one line; the second argument says that it is bad news
    """
    bad = event.kind == "error" or event.data.get("phase") in {"failed", "lost", "expired"}
    if bad and not shown:
        for line in last:
            echo(f"    {line.text}", True)
    echo(f"{'ftlaunch: ' if bad else ''}{event.text}", bad)
    if hint := event.data.get("hint"):
        echo(f"  {hint}", True)
