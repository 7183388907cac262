"""`ftlaunch validate`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from launcher.cli import options

if TYPE_CHECKING:
    from backends.errors import FtlaunchError
    from launcher.deep import Deep
    from launcher.preflight import Problem
    from launcher.preflight.problem import Look
    from launcher.recipe import Recipe


@click.command()
@click.argument("recipe", shell_complete=options.complete_recipe)
@click.option("--set", "sets", multiple=True, metavar="A.B=C", help="Override a config key.")
@click.option("--data", type=click.Path(path_type=Path), help="Replace the first data set.")
@options.gpu
@options.profile
@click.option("--spot", is_flag=True, help="As if on spot capacity, which may be taken away.")
@click.option("--deep", is_flag=True, help="Ask axolotl itself, too: exact tokens, rows, masks.")
@click.option(
    "--online", is_flag=True, help="Ask the hub and W&B, too: gated, missing, not yours to write."
)
@options.backend
@options.secret
@options.as_json
def validate(
    recipe: str,
    profile: str | None,
    sets: tuple[str, ...],
    data: Path | None,
    gpus: tuple[tuple[str, int], ...],
    spot: bool,
    deep: bool,
    online: bool,
    backend: str | None,
    secrets: tuple[str, ...],
    as_json: bool,
) -> int:
    """Look for mistakes in RECIPE and its data. Exits 3 when there is one.

    With -g, also for what that GPU cannot do; of several, each is looked at. Without, those that a
    launch recipe names are.

    With --deep, axolotl's own validation and preprocessing are run here, as if that GPU were.

    With --online, the Hugging Face hub and Weights & Biases are asked, with the tokens that a run
    there (-b) with these secrets (-s) would get.
    """
    from backends.errors import FtlaunchError

    asked = Asked(recipe, profile, sets, data, gpus, spot, deep, online, backend, secrets)
    try:
        found = _found(asked, quiet=as_json)
    except FtlaunchError as error:
        if not as_json:
            raise
        problem = _refusal(recipe, error)
        _print_json(Found(recipe, (problem,)))
        return error.exit_code
    if as_json:
        _print_json(found)
    else:
        _print(found, deep=deep)
    return 3 if found.errors else 0


@dataclass(frozen=True)
class Asked:
    """What the user typed."""

    source: str
    profile: str | None
    sets: tuple[str, ...]
    data: Path | None
    gpus: tuple[tuple[str, int], ...]
    spot: bool
    deep: bool
    online: bool
    backend: str | None
    secrets: tuple[str, ...]


@dataclass(frozen=True)
class Found:
    """All that was seen in a recipe."""

    origin: str
    problems: tuple[Problem, ...]
    passed_over: tuple[str, ...] = ()
    bounds: tuple[str, ...] = ()
    looks: tuple[Deep, ...] = ()
    keeps: str = ""

    @property
    def errors(self) -> int:
        """How many of the problems stop a launch."""
        return sum(problem.severity == "error" for problem in self.problems)


def _refusal(recipe: str, error: FtlaunchError) -> Problem:
    """What could not even be looked at, as one problem."""
    from launcher import preflight

    return preflight.Problem("error", recipe, error.message, error.hint)


def _found(asked: Asked, *, quiet: bool) -> Found:
    from launcher import bundle, preflight
    from launcher import recipe as recipes

    recipe = recipes.load(
        asked.source,
        profile=asked.profile,
        sets=asked.sets,
        data=asked.data,
        cwd=Path.cwd(),
    )
    problems, look = preflight.examined(recipe, secrets=asked.secrets)
    problems += preflight.on_targets(look, asked.gpus, spot=asked.spot)
    problems, unasked = _online(asked, look, problems)
    looks: tuple[Deep, ...] = ()
    if not any(problem.severity == "error" for problem in problems):
        bundle.gather(recipe)
        if asked.deep:
            looks = tuple(_looks(recipe, asked.gpus, quiet=quiet))
            problems += _deeply(recipe, looks)
    problems.sort(key=lambda problem: problem.severity != "error")
    return Found(
        origin=recipe.origin,
        problems=tuple(dict.fromkeys(problems)),
        passed_over=(*preflight.not_checked(recipe), *unasked),
        bounds=tuple(preflight.lengths(look)),
        looks=looks,
        keeps=recipe.launch.hardware.store,
    )


def _online(
    asked: Asked, look: Look, known: list[Problem]
) -> tuple[list[Problem], tuple[str, ...]]:
    """All problems with what the services say, and what they were not asked or did not say."""
    from launcher.preflight import online

    launch = look.recipe.launch
    backend = (asked.backend or launch.backend or "local").partition(":")[0]
    run = online.Run(here=backend == "local", env=launch.env)
    if asked.online:
        answered = online.examine(look, run)
        return answered.with_known(known), answered.not_checked
    unasked = online.would_ask(look, run)
    return known, () if unasked is None else (f"{unasked} (--online asks)",)


def _looks(recipe: Recipe, gpus: Sequence[tuple[str, int]], *, quiet: bool) -> Iterator[Deep]:
    """Axolotl's word on each machine that is asked for: those of -g, else the recipe's own."""
    from launcher import deep

    def told(what: str, *, done: int | None = None, total: int | None = None) -> None:
        if not quiet:
            click.echo(what, err=True)

    for kind, count in gpus or recipe.launch.hardware.gpus or (("cpu", 1),):
        yield deep.look(recipe, None if kind.lower() == "cpu" else kind, count, progress=told)


def _deeply(recipe: Recipe, looks: Sequence[Deep]) -> list[Problem]:
    from launcher.deep import problems

    return [problem for look in looks for problem in problems.problems(recipe, look)]


def _print(found: Found, *, deep: bool) -> None:
    for problem in found.problems:
        click.echo(f"{problem.severity}: {problem.where}: {problem.message}")
        if problem.fix:
            click.echo(f"  {problem.fix}")
    for line in _lengths(found):
        click.echo(line)
    if deep and not found.looks:
        click.echo("--deep: axolotl is asked once there are no errors")
    if found.keeps:
        click.echo(f"checkpoints and results will be kept in {found.keeps}")
    if found.passed_over:
        click.echo(f"not checked: {'; '.join(found.passed_over)}")
    if not found.errors:
        click.echo(f"{found.origin}: {_verdict(len(found.problems))}")


def _lengths(found: Found) -> Iterator[str]:
    """The bounds; or where axolotl counted, what it counted, and the rows it would show."""
    from launcher.deep import problems

    counted = next((look for look in found.looks if look.datasets), None)
    yield from found.bounds if counted is None else problems.counts(counted)
    if counted is None or not counted.samples:
        return
    yield "\nrows as the model sees them; what is green (or between « and ») is trained on:"
    for sample in counted.samples:
        yield "\n" + "".join(_coloured(text, trained=trained) for trained, text in sample) + "\n"


def _coloured(text: str, *, trained: bool) -> str:
    """Green where it is trained on, dim where it is masked; marks carry it where colours do not."""
    from launcher.plan_text import printable

    plain = "\n".join(printable(line) for line in text.split("\n"))
    return click.style(f"«{plain}»", fg="green") if trained else click.style(plain, dim=True)


def _verdict(warnings: int) -> str:
    if warnings:
        return f"no errors, {warnings} warning{'s' if warnings > 1 else ''}"
    return "nothing wrong was found"


def _print_json(found: Found) -> None:
    rows = [
        {"severity": p.severity, "where": p.where, "message": p.message, "fix": p.fix}
        for p in found.problems
    ]
    facts: dict[str, Any] = {
        "recipe": found.origin,
        "problems": rows,
        "not_checked": list(found.passed_over),
        "lengths": list(found.bounds),
        "keeps": found.keeps or None,
    }
    if found.looks:
        facts["deep"] = [_deep_facts(look) for look in found.looks]
    click.echo(json.dumps(facts, indent=2))


def _deep_facts(look: Deep) -> dict[str, Any]:
    return {
        "target": look.target,
        "datasets": [asdict(rows) for rows in look.datasets],
        "samples": [[{"trained": t, "text": text} for t, text in one] for one in look.samples],
    }
