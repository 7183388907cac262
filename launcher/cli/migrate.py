"""`ftlaunch migrate`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from launcher.cli import options

if TYPE_CHECKING:
    from launcher.migrate import Migration
    from launcher.migrate.prompts import Compared


@click.command()
@click.argument("recipe", shell_complete=options.complete_recipe)
@click.option("--write", is_flag=True, help="Replace the file; the old one stays as NAME.bak.")
@options.as_json
def migrate(recipe: str, write: bool, as_json: bool) -> int:
    """Bring RECIPE from 2024 to the axolotl that ftlaunch runs: prints what has to change.

    Comments and the order of keys stay. Nothing is written without --write.
    """
    from launcher import migrate as room
    from launcher.migrate import writing

    found = room.migrate(recipe, cwd=Path.cwd())
    written = writing.write(found) if write and (found.done or found.supplied) else []
    if as_json:
        click.echo(json.dumps(_document(found, written), indent=2))
    else:
        _tell(found, written, write=write)
    return 0


def _tell(found: Migration, written: Sequence[Path], *, write: bool) -> None:
    if not found.needed:
        click.echo(f"{found.label}: there is nothing to migrate")
        return
    for done in found.done:
        click.echo(f"{done.where}: {done.says}")
    for target in found.supplied:
        click.echo(f"{found.label}: {_near(target)} is missing, and comes with ftlaunch")
    if found.after != found.before:
        click.echo(f"\n{found.diff()}", nl=False)
    for compared in found.prompts:
        _tell_prompt(compared)
    if found.by_hand:
        click.echo("\nleft for you:")
        for left in found.by_hand:
            click.echo(f"  {left.where}: {left.says}")
    click.echo("")
    for path in written:
        click.echo(f"wrote {_near(path)}")
    if not write and (found.done or found.supplied):
        click.echo("nothing is written yet; do it with --write, which keeps the old file as .bak")


def _tell_prompt(compared: Compared) -> None:
    from launcher.migrate.prompts import shortened

    click.echo(f"\n{compared.at}: {compared.note}")
    if compared.same:
        click.echo(f"  its first row, before and after:\n{_quoted(shortened(compared.after))}")
    elif compared.before:
        click.echo(f"  its first row before:\n{_quoted(shortened(compared.before))}")
        click.echo(f"  its first row after:\n{_quoted(shortened(compared.after))}")


def _quoted(text: str) -> str:
    return "\n".join(f"    | {line}" for line in text.splitlines())


def _near(path: Path) -> str:
    """The path from here, where it lies below."""
    here = Path.cwd().resolve()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def _document(found: Migration, written: Sequence[Path]) -> dict[str, object]:
    return {
        "recipe": found.label,
        "changes": [{"where": done.where, "says": done.says} for done in found.done],
        "by_hand": [{"where": left.where, "says": left.says} for left in found.by_hand],
        "supplied": [str(target) for target in found.supplied],
        "diff": found.diff(),
        "prompts": [
            {"at": p.at, "note": p.note, "before": p.before, "after": p.after}
            for p in found.prompts
        ],
        "written": [str(path) for path in written],
    }
