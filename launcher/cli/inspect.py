"""`ftlaunch inspect`: everything that is known about a run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import click

from launcher import places
from launcher.cli import options
from launcher.cli.facts import describe, find
from launcher.plan_text import printable
from launcher.store import RunRecord, open_store

_OF_A_RUN = ["name", "id", "phase", "recipe", "backend", "created_at", "ended_at", "cost", "output"]
_OF_A_JOB = ["backend", "phase", "reason", "exit_code", "launched_at", "ended_at", "cost", "files"]


@click.command()
@options.run_argument
@click.option("--bill", is_flag=True, help="Ask the provider what it billed, besides.")
@options.as_json
def inspect(run: str | None, bill: bool, as_json: bool) -> None:
    """Show everything known about RUN (default: the last)."""
    store = open_store(places.state_dir())
    found = find(store, run)
    facts = describe(store, found, bill=bill)
    if as_json:
        click.echo(json.dumps(facts, indent=2))
        return
    for key in _OF_A_RUN:
        if facts[key] is not None:
            click.echo(f"{key + ':':<12} {_shown(key, facts[key])}")
    if facts["offers"]:
        from launcher.cli.order_view import row_text

        click.echo("\noffers")
        for row in facts["offers"]:
            click.echo(f"  {printable(row_text(row))}")
    for job in facts["jobs"]:
        _job(found, job, bill=bill)


def _job(run: RunRecord, job: Mapping[str, Any], *, bill: bool) -> None:
    click.echo(f"\njob {job['kind']} ({job['name']})")
    for key in _OF_A_JOB:
        if job[key] not in {None, ""}:
            click.echo(f"  {key + ':':<12} {_shown(key, job[key])}")
    if bill:
        said = job["bill"] or "nothing (yet): a bill comes late, and not to every account"
        if job["bill_unknown"]:
            said = f"not known: {job['bill_unknown']}"
        click.echo(f"  {'bill:':<12} {said}")
    if job["files_billed"]:
        click.echo(f"  {'billed:':<12} storage; end that with: ftlaunch rm {run.name}")
    for step in job["steps"]:
        click.echo(f"  {step['name'] + ':':<12} {step['command']}")


def _shown(key: str, value: object) -> str:
    """Times to the second."""
    if key.endswith("_at") and isinstance(value, str):
        return datetime.fromisoformat(value).isoformat(sep=" ", timespec="seconds")
    return printable(str(value))
