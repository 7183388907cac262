"""`ftlaunch recipes` and `ftlaunch validate`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from launcher.cli import options

if TYPE_CHECKING:
    from launcher.preflight import Problem


@click.group(invoke_without_command=True)
@options.as_json
@click.pass_context
def recipes(ctx: click.Context, as_json: bool) -> None:
    """List the bundled recipes."""
    if ctx.invoked_subcommand is None:
        _list(as_json=as_json)


@recipes.command("list")
@options.as_json
def list_(as_json: bool) -> None:
    """The same as `ftlaunch recipes`."""
    _list(as_json=as_json)


def _list(*, as_json: bool) -> None:
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
@options.as_json
def show(name: str, as_json: bool) -> None:
    """Print a bundled recipe and its axolotl config."""
    from launcher.bundled_copy import bundled_texts

    texts = bundled_texts(name)
    if as_json:
        click.echo(json.dumps([{"title": title, "text": text} for title, text in texts], indent=2))
        return
    for title, text in texts:
        click.echo(f"# {title}")
        click.echo(text.rstrip() + "\n")


@recipes.command()
@click.argument("name", shell_complete=options.complete_recipe)
@click.argument("folder", required=False, type=click.Path(path_type=Path))
@options.as_json
def copy(name: str, folder: Path | None, as_json: bool) -> None:
    """Copy a bundled recipe, its config and its data to FOLDER (default: ./NAME)."""
    from launcher.bundled_copy import copy_bundled

    into = folder or Path(name)
    made = copy_bundled(name, into)
    if as_json:
        click.echo(json.dumps({"recipe": str(made[0]), "files": [str(p) for p in made]}, indent=2))
        return
    click.echo(f"{len(made)} files in {into}; train it with: ftlaunch train {made[0]}")


@click.command()
@click.argument("recipe", shell_complete=options.complete_recipe)
@click.option("--set", "sets", multiple=True, metavar="A.B=C", help="Override a config key.")
@click.option("--data", type=click.Path(path_type=Path), help="Replace the first data set.")
@options.gpu
@options.profile
@click.option("--spot", is_flag=True, help="As if on spot capacity, which may be taken away.")
@options.as_json
def validate(
    recipe: str,
    profile: str | None,
    sets: tuple[str, ...],
    data: Path | None,
    gpus: tuple[tuple[str, int], ...],
    spot: bool,
    as_json: bool,
) -> int:
    """Look for mistakes in RECIPE and its data. Exits 3 when there is one.

    With -g, also for what that GPU cannot do; of several, each is looked at. Without, those that a
    launch recipe names are.
    """
    from backends.errors import FtlaunchError
    from launcher import bundle, preflight
    from launcher import recipe as recipes_room

    try:
        found = recipes_room.load(recipe, profile=profile, sets=sets, data=data, cwd=Path.cwd())
        problems, look = preflight.examined(found)
        problems += preflight.on_targets(look, gpus, spot=spot)
        problems.sort(key=lambda problem: problem.severity != "error")
        passed_over = preflight.not_checked(found)
        bounds = preflight.lengths(look)
        errors = sum(problem.severity == "error" for problem in problems)
        if not errors:
            bundle.gather(found)
    except FtlaunchError as error:
        if not as_json:
            raise
        problems = [preflight.Problem("error", recipe, error.message, error.hint)]
        _print_json(recipe, problems, [], [])
        return error.exit_code
    if as_json:
        _print_json(found.origin, problems, passed_over, bounds)
        return 3 if errors else 0
    for problem in problems:
        click.echo(f"{problem.severity}: {problem.where}: {problem.message}")
        if problem.fix:
            click.echo(f"  {problem.fix}")
    for bound in bounds:
        click.echo(bound)
    if passed_over:
        click.echo(f"not checked: {'; '.join(passed_over)}")
    if not errors:
        click.echo(f"{found.origin}: {_verdict(len(problems))}")
    return 3 if errors else 0


def _verdict(warnings: int) -> str:
    if warnings:
        return f"no errors, {warnings} warning{'s' if warnings > 1 else ''}"
    return "nothing wrong was found"


def _print_json(
    origin: str, problems: Sequence[Problem], passed_over: Sequence[str], bounds: Sequence[str]
) -> None:
    rows = [
        {"severity": p.severity, "where": p.where, "message": p.message, "fix": p.fix}
        for p in problems
    ]
    facts = {
        "recipe": origin,
        "problems": rows,
        "not_checked": list(passed_over),
        "lengths": list(bounds),
    }
    click.echo(json.dumps(facts, indent=2))
