"""`ftlaunch env`: the managed axolotl environment."""

from __future__ import annotations

import json

import click

from launcher.cli import options


@click.group(invoke_without_command=True)
@options.as_json
@click.pass_context
def env(ctx: click.Context, as_json: bool) -> None:
    """Show the managed axolotl environments on this machine."""
    if ctx.invoked_subcommand is not None:
        return
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


@env.command()
@click.option("--cpu", is_flag=True, help="The one for CPUs, even where there is a GPU.")
def make(cpu: bool) -> None:
    """Make the environment now, so that the first run need not."""
    from launcher import environment
    from launcher.cli.following import start_up

    spec = environment.choose({}, gpu=not cpu and bool(environment.detect()))
    prefix = environment.ensure(spec, progress=start_up(quiet=False))
    click.echo(f"ready: {prefix}")


@env.command("check")
@click.option("--cpu", is_flag=True, help="The one for CPUs, even where there is a GPU.")
def check_(cpu: bool) -> None:
    """Import axolotl in the environment a run would use here; exits 3 when it is not well."""
    from launcher import environment

    spec = environment.choose({}, gpu=not cpu and bool(environment.detect()))
    for name, version in sorted(environment.verify(spec).items()):
        click.echo(f"{name} {version}")
    click.echo(f"{spec.name}: well")


@env.command()
@click.argument("name", required=False)
@options.yes
def remove(name: str | None, yes: bool) -> None:
    """Remove the environment NAME, or all of them."""
    from backends.errors import BadInput
    from launcher import environment

    found = [i.name for i in environment.inspect() if name in {None, i.name}]
    if not found:
        raise BadInput(
            f"there is no environment {name or ''}".rstrip(), hint="list them with: ftlaunch env"
        )
    if not yes:
        click.confirm(f"remove {', '.join(found)}?", abort=True)
    for one in found:
        environment.remove(one)
        click.echo(f"{one} is removed")
