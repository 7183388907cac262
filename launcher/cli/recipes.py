"""`ftlaunch recipes` and `ftlaunch validate`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from launcher.cli import options


@click.group(invoke_without_command=True)
@options.as_json
@click.pass_context
def recipes(ctx: click.Context, as_json: bool) -> None:
    """List the bundled recipes."""
    if ctx.invoked_subcommand is not None:
        return
    import yaml

    from launcher.bundled import recipes_dir

    found = [
        {
            "name": path.stem,
            "description": (yaml.safe_load(path.read_text("utf-8")) or {}).get("description", ""),
        }
        for path in sorted(recipes_dir().glob("*.yml"))
    ]
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for recipe in found:
        click.echo(f"{recipe['name']:<14} {recipe['description']}")
    click.echo("\nlook at one:  ftlaunch recipes show NAME")
    click.echo("make it yours: ftlaunch recipes copy NAME")


@recipes.command()
@click.argument("name", shell_complete=options.complete_recipe)
def show(name: str) -> None:
    """Print a bundled recipe and its axolotl config."""
    from launcher.bundled_copy import bundled_texts

    for title, text in bundled_texts(name):
        click.echo(f"# {title}")
        click.echo(text.rstrip() + "\n")


@recipes.command()
@click.argument("name", shell_complete=options.complete_recipe)
@click.argument("folder", required=False, type=click.Path(path_type=Path))
def copy(name: str, folder: Path | None) -> None:
    """Copy a bundled recipe, its config and its data to FOLDER (default: ./NAME)."""
    from launcher.bundled_copy import copy_bundled

    into = folder or Path(name)
    made = copy_bundled(name, into)
    click.echo(f"{len(made)} files in {into}; train it with: ftlaunch train {made[0]}")


@click.command()
@click.argument("recipe", shell_complete=options.complete_recipe)
@click.option("--set", "sets", multiple=True, metavar="A.B=C", help="Override a config key.")
@click.option("--data", type=click.Path(path_type=Path), help="Replace the first data set.")
@options.as_json
def validate(recipe: str, sets: tuple[str, ...], data: Path | None, as_json: bool) -> int:
    """Look for mistakes in RECIPE and its data. Exits 3 when there is one."""
    from launcher import bundle, preflight
    from launcher import recipe as recipes_room

    found = recipes_room.load(recipe, sets=sets, data=data, cwd=Path.cwd())
    problems = preflight.examine(found)
    errors = [problem for problem in problems if problem.severity == "error"]
    if not errors:
        bundle.gather(found)
    if as_json:
        rows = [
            {"severity": p.severity, "where": p.where, "message": p.message, "fix": p.fix}
            for p in problems
        ]
        click.echo(json.dumps({"recipe": found.origin, "problems": rows}, indent=2))
        return 3 if errors else 0
    for problem in problems:
        click.echo(f"{problem.severity}: {problem.where}: {problem.message}")
        if problem.fix:
            click.echo(f"  {problem.fix}")
    if not errors:
        click.echo(f"{found.origin}: nothing wrong was found")
    return 3 if errors else 0
