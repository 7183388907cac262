"""`ftlaunch check`: whether this machine and each backend are ready."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from launcher.cli import options

if TYPE_CHECKING:
    from backends.lease import Finding


@click.command()
@options.backend
@options.as_json
def check(backend: str | None, as_json: bool) -> int:
    """Look at what is needed to run, spending nothing. Exits 4 when something is missing."""
    from backends import registry
    from backends.errors import FtlaunchError
    from backends.lease import Finding
    from launcher import places

    found: dict[str, list[Finding]] = {}
    for name in [backend] if backend else registry.names():
        try:
            found[name] = list(registry.load(name, state_dir=places.backends_dir()).check())
        except FtlaunchError:
            raise
        except Exception as error:  # noqa: BLE001 - a stranger's backend may raise anything
            detail = f"cannot be loaded: {error!r}"
            found[name] = [Finding(name, ok=False, detail=detail, hint="reinstall it")]
    bad = any(not finding.ok for findings in found.values() for finding in findings)
    if as_json:
        click.echo(json.dumps({name: [_row(f) for f in rows] for name, rows in found.items()}))
    else:
        for name, findings in found.items():
            click.echo(name)
            for finding in findings:
                mark = "ok " if finding.ok else "NO "
                click.echo(f"  {mark} {finding.subject}: {finding.detail}")
                if not finding.ok and finding.hint:
                    click.echo(f"      {finding.hint}")
    return 4 if bad else 0


def _row(finding: Finding) -> dict[str, object]:
    return {
        "subject": finding.subject,
        "ok": finding.ok,
        "detail": finding.detail,
        "hint": finding.hint,
    }
