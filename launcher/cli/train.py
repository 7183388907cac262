"""`ftlaunch train` and `ftlaunch preprocess`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from launcher.cli import counting, options

if TYPE_CHECKING:
    from launcher.request import Request

_EXTRA = "ftlaunch.extra"

_UNCHECKED = (
    "--no-preflight: recipe and data are not looked at; a misspelled key is ignored without a "
    "word, and other mistakes show once the machine is paid for"
)


def _shared(command: Callable[..., Any]) -> Callable[..., Any]:
    """What `train` and `preprocess` both take."""
    for option in reversed(
        (
            click.argument("recipe", shell_complete=options.complete_recipe),
            options.backend,
            options.gpu,
            options.profile,
            click.option(
                "--set", "sets", multiple=True, metavar="A.B=C", help="Override a config key."
            ),
            click.option(
                "--data",
                type=click.Path(path_type=Path),
                help="Use this file in place of the first data set's.",
            ),
            click.option("-n", "--name", help="The run's name."),
            click.option(
                "-o",
                "--output",
                type=click.Path(path_type=Path),
                help="Where results are put (default: runs/NAME).",
            ),
            click.option("-d", "--detach", is_flag=True, help="Return once it runs by itself."),
            click.option("-y", "--yes", is_flag=True, help="Do not ask."),
            click.option(
                "--dry-run", "--dryrun", "dry_run", is_flag=True, help="Say it all, do nothing."
            ),
            counting.option,
            click.option("--max-duration", type=options.Duration(), help="End it after this long."),
            click.option("--max-cost", type=options.Dollars(), help="End it at this many dollars."),
            click.option("--max-price", type=options.Dollars(), help="Dollars an hour, at most."),
            click.option(
                "--on-finish",
                type=click.Choice(["destroy", "pause", "keep"]),
                help="What becomes of the machine once the results are here.",
            ),
            click.option(
                "--no-preflight",
                is_flag=True,
                help="Do not look for mistakes first: they show where time is paid for.",
            ),
            click.option(
                "--max-wait",
                type=options.Duration(),
                help="With -b auto: so long in a queue before the next offer is tried (10m).",
            ),
            click.option("--spot", is_flag=True, help="Use spot capacity."),
            options.regions,
            click.option(
                "--recover", is_flag=True, help="Go on by itself when the machine is taken away."
            ),
            click.option(
                "--store",
                default="",
                metavar="s3://BUCKET/PREFIX",
                help="With --recover behind SkyPilot: the bucket that checkpoints are kept in.",
            ),
            click.option(
                "-e",
                "--env",
                "variables",
                type=options.Assignment(),
                multiple=True,
                help="A variable for the job.",
            ),
            click.option(
                "--env-file",
                type=click.Path(path_type=Path, dir_okay=False, exists=True),
                help="Variables for the job, NAME=value a line.",
            ),
            options.secret,
            options.as_json,
        )
    ):
        command = option(command)
    return command


class WithLauncherArguments(click.Command):
    """Keeps what follows `--` apart, and only that: a stray word is a mistake, not an argument."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take the arguments for accelerate out of the line."""
        if "--" in args:
            cut = args.index("--")
            ctx.meta[_EXTRA] = tuple(args[cut + 1 :])
            args = args[:cut]
        return super().parse_args(ctx, args)

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """Show them in the usage line."""
        return [*super().collect_usage_pieces(ctx), "[-- LAUNCHER ARGUMENTS]"]


@click.command(
    cls=WithLauncherArguments, epilog="What follows -- goes to accelerate launch as it is."
)
@_shared
@click.option("--merge/--no-merge", default=None, help="Merge after training, or do not.")
def train(**given: Any) -> int:
    """Train RECIPE: a bundled name, an axolotl YAML file, or an https URL."""
    return _go(only=None, **given)


@click.command()
@_shared
def preprocess(**given: Any) -> int:
    """Tokenise RECIPE's data as training would, and stop there."""
    return _go(only="preprocess", **given)


def _go(
    recipe: str,
    backend: str | None,
    gpus: tuple[tuple[str, int], ...],
    profile: str | None,
    sets: tuple[str, ...],
    data: Path | None,
    name: str | None,
    output: Path | None,
    *,
    only: str | None,
    detach: bool,
    yes: bool,
    dry_run: bool,
    count: bool,
    max_duration: timedelta | None,
    max_cost: Decimal | None,
    max_price: Decimal | None,
    max_wait: timedelta | None,
    on_finish: str | None,
    no_preflight: bool,
    spot: bool,
    regions: tuple[str, ...],
    recover: bool,
    store: str,
    variables: tuple[tuple[str, str], ...],
    env_file: Path | None,
    secrets: tuple[str, ...],
    as_json: bool,
    merge: bool | None = None,
) -> int:
    from launcher.on_finish import OnFinish
    from launcher.request import Request

    request = Request(
        source=recipe,
        profile=profile,
        sets=sets,
        data=data,
        backend=backend,
        gpus=gpus,
        preflight=not no_preflight,
        spot=spot,
        regions=regions,
        recover=recover,
        store=store,
        name=name,
        output=output,
        extra=click.get_current_context().meta.get(_EXTRA, ()),
        only=only,
        merge=merge,
        max_duration=max_duration,
        max_cost=max_cost,
        max_price=max_price,
        max_wait=max_wait,
        on_finish=None if on_finish is None else OnFinish(on_finish),
        env={**(read_env_file(env_file) if env_file else {}), **dict(variables)},
        secrets=secrets,
    )
    if no_preflight:
        click.echo(_UNCHECKED, err=True)
    how = {"detach": detach, "yes": yes, "dry_run": dry_run, "as_json": as_json}
    code, _ = go(request, count=count, **how)
    return code


def go(
    request: Request,
    *,
    detach: bool,
    yes: bool,
    dry_run: bool,
    as_json: bool,
    count: bool = False,
) -> tuple[int, str | None]:
    """Plan, agree, launch and follow: the exit code, and the run's id if there is one.

    count  the tokens of local data first, in a dry run
    """
    from launcher import launch, places, planning
    from launcher.cli import agreeing, bills_view, following, order_view, plan_view
    from launcher.store import open_store

    store = open_store(places.state_dir())
    prepared = planning.prepare(request, store, dry=dry_run)
    if dry_run:
        if count and request.only is None and prepared.offer.gpu is not None:
            counting.first(prepared.recipe)
        plan_view.show(prepared, store, as_json=as_json)
        return 0, None
    launch.require_secrets(prepared.run.secrets)
    plan_view.show_brief(prepared, store, quiet=as_json)
    if not yes and order_view.may_bill(prepared):
        agreeing.confirm(f"this costs {order_view.price_words(prepared)} an hour; go on?")
    run = launch.begin(prepared, store, progress=following.start_up(quiet=as_json))
    if detach and not as_json:
        bills_view.warn(prepared)
    return following.follow(store, run, detach=detach, as_json=as_json), run.id


def read_env_file(path: Path) -> dict[str, str]:
    """`NAME=value` lines; blank lines and those that begin with `#` are passed over."""
    variables = {}
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        name, equals, value = text.removeprefix("export ").partition("=")
        if not equals:
            raise click.UsageError(f"{path}:{number} is not NAME=value")
        variables[name.strip()] = value.strip().strip("'\"")
    return variables
