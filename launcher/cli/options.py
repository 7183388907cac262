"""Options that several commands share, and the types that read them."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

import click

from launcher import places

_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([dhms]?)")
_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "": 1.0}


class Duration(click.ParamType):
    """`90m`, `2h30m`, `1d` or plain seconds."""

    name = "time"

    def get_metavar(self, param: Any, ctx: Any = None) -> str:
        """The help page shows how a time is written."""
        return "90m|2h30m|3600"

    def convert(self, value: Any, param: Any, ctx: Any) -> timedelta:
        """Read the text; fails with a usage error."""
        if isinstance(value, timedelta):
            return value
        text = str(value).strip().lower().replace(" ", "")
        parts = _PART.findall(text)
        if not parts or "".join(number + unit for number, unit in parts) != text:
            self.fail(f"{value!r} is not a time such as 90m, 2h30m or 3600", param, ctx)
        seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
        if seconds <= 0:
            self.fail(f"{value!r}: the time must be longer than zero", param, ctx)
        try:
            return timedelta(seconds=seconds)
        except OverflowError:
            self.fail(f"{value!r} is longer than anything lasts", param, ctx)


class Dollars(click.ParamType):
    """An amount in US dollars, `20` or `$4.50`."""

    name = "usd"

    def convert(self, value: Any, param: Any, ctx: Any) -> Decimal:
        """Read the text; fails with a usage error."""
        if isinstance(value, Decimal):
            return value
        try:
            amount = Decimal(str(value).strip().removeprefix("$"))
        except InvalidOperation:
            self.fail(f"{value!r} is not an amount in dollars such as 20 or 4.50", param, ctx)
        if not amount.is_finite() or amount <= 0:
            self.fail(f"{value!r}: the amount must be above zero", param, ctx)
        return amount


class Gpu(click.ParamType):
    """`H100`, `A100-80GB:2`, or several, ranked: `H100,A100-80GB`. `cpu` asks for none."""

    name = "gpu[:count]"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[tuple[str, int], ...]:
        """Read the text; fails with a usage error."""
        if isinstance(value, tuple):
            return value
        return tuple(self._one(part, param, ctx) for part in str(value).split(","))

    def _one(self, text: str, param: Any, ctx: Any) -> tuple[str, int]:
        kind, _, count = text.strip().partition(":")
        if not kind or (count and (not count.isdigit() or int(count) < 1)):
            self.fail(f"{text!r} is not a GPU such as H100 or A100-80GB:2", param, ctx)
        if kind.isdigit() and len(kind) < 3:
            self.fail(f"{text!r} is a number, not a GPU: say which, as in H100:{kind}", param, ctx)
        if kind.lower() == "cpu" and count:
            self.fail(f"{text!r}: cpu asks for no GPU, and takes no number", param, ctx)
        return kind, int(count or 1)


class Assignment(click.ParamType):
    """`NAME=value`."""

    name = "name=value"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, str]:
        """Read the text; fails with a usage error."""
        if isinstance(value, tuple):
            return value[0], value[1]
        name, equals, given = str(value).partition("=")
        if not equals or not name:
            self.fail(f"{value!r} is not NAME=value", param, ctx)
        return name, given


def complete_run(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Names of runs, for tab completion."""
    from launcher.store import open_store

    names = open_store(places.state_dir()).names()
    return [name for name in names if name.startswith(incomplete)]


def complete_recipe(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
    """Names of bundled recipes, and files."""
    from click.shell_completion import CompletionItem

    from launcher.bundled import recipes_dir

    names = [path.stem for path in sorted(recipes_dir().glob("*.yml"))]
    found: list[Any] = [CompletionItem(name) for name in names if name.startswith(incomplete)]
    return [*found, CompletionItem(incomplete, type="file")]


def complete_backend(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Names of installed backends."""
    from backends import registry

    return [name for name in ("auto", *registry.names()) if name.startswith(incomplete)]


Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")

run_argument = click.argument("run", required=False, shell_complete=complete_run)

yes = click.option("-y", "--yes", is_flag=True, help="Do not ask.")

secret = click.option(
    "-s",
    "--secret",
    "secrets",
    multiple=True,
    metavar="NAME",
    help="A variable of this terminal that is a secret.",
)

backend = click.option(
    "-b",
    "--backend",
    metavar="NAME",
    shell_complete=complete_backend,
    help="Where it runs: local, another backend (NAME, NAME:DETAIL), or auto.",
)

profile = click.option(
    "--profile", metavar="NAME", help="Another size of the recipe, of those it names: cpu."
)

gpu = click.option(
    "-g",
    "--gpu",
    "gpus",
    type=Gpu(),
    default=(),
    help="H100, A100-80GB:2, ranked: H100,A100; cpu for none.",
)

regions = click.option(
    "--region", "--regions", "regions", multiple=True, metavar="NAME", help="Only there."
)
