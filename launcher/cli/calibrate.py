"""`ftlaunch calibrate`: a few steps of a recipe on a GPU, for what they take."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import click

from launcher.cli import options

STEPS = 12
"""Of the optimizer: the first few are not counted."""


def sets(steps: int) -> tuple[str, ...]:
    """What makes a recipe short: no checkpoint, no evaluation, a line for every step."""
    return (
        f"max_steps={steps}",
        "logging_steps=1",
        'save_strategy="no"',
        "val_set_size=0",
        "test_datasets=null",
        "evals_per_epoch=null",
        "eval_steps=null",
        "saves_per_epoch=null",
        "save_steps=null",
    )


@click.command()
@click.argument("recipe", shell_complete=options.complete_recipe)
@options.backend
@options.gpu
@click.option("--set", "changes", multiple=True, metavar="A.B=C", help="Override a config key.")
@click.option("--data", type=click.Path(path_type=Path), help="Use this file as the data.")
@click.option("--steps", type=click.IntRange(min=7), default=STEPS, show_default=True)
@click.option("--max-price", type=options.Dollars(), help="Dollars an hour, at most.")
@click.option("--max-cost", type=options.Dollars(), help="End it at this many dollars.")
@click.option("-n", "--name", help="The run's name.")
@click.option("-s", "--secret", "secrets", multiple=True, metavar="NAME")
@options.yes
@click.option("--dry-run", is_flag=True, help="Say it all, do nothing.")
@options.as_json
def calibrate(
    recipe: str,
    backend: str | None,
    gpus: tuple[tuple[str, int], ...],
    changes: tuple[str, ...],
    data: Path | None,
    steps: int,
    max_price: Decimal | None,
    max_cost: Decimal | None,
    name: str | None,
    secrets: tuple[str, ...],
    yes: bool,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Run a few steps of RECIPE there, stop, and record what they took.

    The next estimate on that GPU is drawn to it. The result is thrown away.
    """
    from launcher.cli.train import go
    from launcher.on_finish import OnFinish
    from launcher.request import Request

    request = Request(
        source=recipe,
        sets=(*changes, *sets(steps)),
        data=data,
        backend=backend,
        gpus=gpus,
        name=name,
        merge=False,
        evaluate=False,
        max_price=max_price,
        max_cost=max_cost,
        on_finish=OnFinish.DESTROY,
        secrets=secrets,
        artifacts=("output/nothing",),
    )
    code, run = go(request, detach=False, yes=yes, dry_run=dry_run, as_json=as_json)
    if run is not None and not as_json:
        _tell(run, code)
    return code


def _tell(run: str, code: int) -> None:
    """What was measured, in a line."""
    from launcher import places
    from launcher.store import open_store

    store = open_store(places.state_dir())
    jobs = {job.name for job in store.jobs(run) if job.kind == "train"}
    found = [one for one in store.measurements() if one.job in jobs]
    if not found or found[0].step_s is None:
        if code == 0:
            click.echo(
                "nothing was recorded: steps that are too few, or too quick for axolotl's bar to "
                "show them apart, or a recipe that cannot be estimated"
            )
        return
    one = found[0]
    peak = "" if one.peak_gib is None else f", {one.peak_gib:.2f} GiB of tensors at most"
    where = "this machine" if one.gpu is None else f"{one.gpu} x {one.count}"
    click.echo(f"recorded for {where}, {one.method}: {one.step_s:.3g} s a step{peak}")
