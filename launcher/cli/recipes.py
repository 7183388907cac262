"""`ftlaunch recipes`."""

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
