"""`ftlaunch check`: whether this machine and each backend are ready, and what can be cleaned up."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

from launcher.cli import options

if TYPE_CHECKING:
    from backends.lease import Finding

_NOT_READY, _MAY_BILL = 4, 8


@click.command()
@options.backend
@click.option("--clean", is_flag=True, help="Remove what no job needs: caches, keys, machines.")
@options.as_json
def check(backend: str | None, clean: bool, as_json: bool) -> int:
    """Look at what is needed to run, spending nothing. Exits 4 when something is missing.

    A backend that nobody has set up is named, and is no failure as long as another one is ready.
    With --clean, exits 8 when something is left that may bill and that no run here minds.
    """
    from launcher.cli import looking

    found = {name: looking.look(name) for name in looking.chosen(backend)}
    idle = {} if backend else {n: rows for n, rows in found.items() if looking.not_set_up(rows)}
    cleaned = _clean([name for name in found if name not in idle]) if clean else None
    code = _code(found, idle)
    if cleaned is not None:
        code = _code_of_cleaning(cleaned) or code
    if as_json:
        click.echo(json.dumps(_document(found, cleaned)))
        return code
    for name, findings in found.items():
        if name in idle:
            _tell_idle(name, findings)
        else:
            _tell(name, findings)
    for name, findings in (cleaned or {}).items():
        _tell(f"{name}, cleaned up", findings)
        if not findings:
            click.echo("  nothing was left to clean up")
    return code


def _code(found: Mapping[str, Sequence[Finding]], idle: Mapping[str, object]) -> int:
    used = {name: rows for name, rows in found.items() if name not in idle}
    bad = any(not finding.ok for rows in used.values() for finding in rows)
    return _NOT_READY if bad or not used else 0


def _clean(names: Sequence[str]) -> dict[str, list[Finding]]:
    from launcher import places
    from launcher.cli import looking
    from launcher.run.cleaning import clean
    from launcher.store import open_store

    store = open_store(places.state_dir())
    return {name: clean(store, looking.load(name)) for name in names}


def _code_of_cleaning(cleaned: Mapping[str, Sequence[Finding]]) -> int:
    bad = [finding for rows in cleaned.values() for finding in rows if not finding.ok]
    if any(finding.bills for finding in bad):
        return _MAY_BILL
    return 1 if bad else 0


def _tell_idle(name: str, findings: Sequence[Finding]) -> None:
    click.echo(f"{name}: not set up")
    for finding in findings:
        if not finding.ok:
            click.echo(f"      {finding.detail}: {finding.hint}")


def _tell(name: str, findings: Sequence[Finding]) -> None:
    click.echo(name)
    for finding in findings:
        click.echo(f"  {'ok ' if finding.ok else 'NO '} {finding.subject}: {finding.detail}")
        if not finding.ok and finding.hint:
            click.echo(f"      {finding.hint}")


def _document(
    found: Mapping[str, Sequence[Finding]], cleaned: Mapping[str, Sequence[Finding]] | None
) -> dict[str, object]:
    """By backend; with --clean, what was found and what was done, each by backend."""
    looked = {name: [_row(finding) for finding in rows] for name, rows in found.items()}
    if cleaned is None:
        return dict(looked)
    done = {name: [_row(finding) for finding in rows] for name, rows in cleaned.items()}
    return {"check": looked, "clean": done}


def _row(finding: Finding) -> dict[str, object]:
    return {
        "subject": finding.subject,
        "ok": finding.ok,
        "detail": finding.detail,
        "hint": finding.hint,
        "unset": finding.unset,
        "bills": finding.bills,
    }
