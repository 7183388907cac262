"""`ftlaunch env`: the managed axolotl environment."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from launcher.cli import options

if TYPE_CHECKING:
    from launcher.environment import Spec


@click.group(invoke_without_command=True)
@options.as_json
@click.pass_context
def env(ctx: click.Context, as_json: bool) -> None:
    """Show the managed axolotl environments on this machine."""
    if ctx.invoked_subcommand is None:
        _show(as_json=as_json)


@env.command()
@options.as_json
def show(as_json: bool) -> None:
    """The same as `ftlaunch env`."""
    _show(as_json=as_json)


def _show(*, as_json: bool) -> None:
    from launcher import environment
    from launcher.run.pull import human_bytes

    found = environment.inspect()
    if as_json:
        rows = [
            {"name": i.name, "prefix": str(i.prefix), "state": i.state, "size": i.size_bytes}
            for i in found
        ]
        click.echo(json.dumps(rows, indent=2))
        return
    if not found:
        click.echo("no environment is made yet; the first run makes it, or: ftlaunch env make")
    for installed in found:
        state = installed.state
        if state != "ready":
            state += ": the next run that needs it makes it anew"
        click.echo(f"{installed.name}  {human_bytes(installed.size_bytes)}  {state}")
        click.echo(f"  {installed.prefix}")


_cpu = click.option("--cpu", is_flag=True, help="The one for CPUs, even where there is a GPU.")


def _chosen(*, cpu: bool) -> Spec:
    """The environment a run would use here."""
    from launcher import environment

    return environment.choose({}, gpu=not cpu and bool(environment.detect()))


@env.command()
@_cpu
@options.as_json
def make(cpu: bool, as_json: bool) -> None:
    """Make the environment now, so that the first run need not."""
    from launcher import environment
    from launcher.cli.following import start_up

    spec = _chosen(cpu=cpu)
    prefix = environment.ensure(spec, progress=start_up(quiet=as_json))
    if as_json:
        click.echo(json.dumps({"name": spec.name, "prefix": str(prefix)}))
    else:
        click.echo(f"ready: {prefix}")


@env.command()
@_cpu
def path(cpu: bool) -> None:
    """Print the folder of the environment a run would use here; exits 3 when it is not made."""
    from backends.errors import Refused
    from launcher import environment

    spec = _chosen(cpu=cpu)
    prefix = environment.prefix_of(spec)
    if not environment.healthy(prefix):
        option = " --cpu" if cpu else ""
        raise Refused(
            f"the environment {spec.name} is not made yet",
            hint=f"the first run makes it, or: ftlaunch env make{option}",
        )
    click.echo(prefix)


@env.command("check")
@_cpu
@options.as_json
def check_(cpu: bool, as_json: bool) -> None:
    """Import axolotl in the environment a run would use here; exits 3 when it is not well."""
    from launcher import environment

    spec = _chosen(cpu=cpu)
    versions = environment.verify(spec)
    if as_json:
        click.echo(json.dumps({"name": spec.name, "versions": versions}, indent=2, sort_keys=True))
        return
    for name, version in sorted(versions.items()):
        click.echo(f"{name} {version}")
    click.echo(f"{spec.name}: well")


@env.command()
@click.argument("name", required=False)
@click.option("--all", "everything", is_flag=True, help="All of them.")
@options.yes
@options.as_json
def remove(name: str | None, everything: bool, yes: bool, as_json: bool) -> None:
    """Remove the environment NAME, or all of them."""
    from backends.errors import BadInput
    from launcher import environment
    from launcher.cli.agreeing import confirm

    if (name is None) != everything:
        raise click.UsageError("give the NAME of one, or --all; list them with: ftlaunch env")
    found = [i.name for i in environment.inspect() if everything or i.name == name]
    if not found:
        raise BadInput(
            f"there is no environment {name or ''}".rstrip(), hint="list them with: ftlaunch env"
        )
    if not yes:
        confirm(f"remove {', '.join(found)}?")
    for one in found:
        environment.remove(one)
        if not as_json:
            click.echo(f"{one} is removed")
    if as_json:
        click.echo(json.dumps({"removed": found}))
