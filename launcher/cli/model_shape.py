"""Options that say a model's shape, where it is not known here."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from backends.errors import BadInput

if TYPE_CHECKING:
    from launcher.estimate import Shape

_UNITS = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12}


class Parameters(click.ParamType):
    """`8B`, `1.7b`, `135M`, or the whole number."""

    name = "8B"

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        """Read the text; fails with a usage error."""
        if isinstance(value, int):
            return value
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmbt]?)", str(value).strip().lower())
        count = 0 if found is None else round(float(found[1]) * _UNITS[found[2]])
        if count < 1:
            self.fail(f"{value!r} is not a number of parameters such as 8B or 135M", param, ctx)
        return count


_NUMBERS = {
    "hidden": "Width of its hidden states.",
    "layers": "Blocks.",
    "vocab": "Tokens of its vocabulary.",
    "heads": "Attention heads of a block.",
    "kv-heads": "Of them with keys and values of their own.",
    "intermediate": "Width of an MLP.",
}


def options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--model-config`, or `--params` and the numbers it goes with."""
    for name, said in reversed(_NUMBERS.items()):
        command = click.option(f"--{name}", type=click.IntRange(1, 10**7), help=said)(command)
    command = click.option(
        "--params",
        type=Parameters(),
        help="The model's parameters, when its shape is not known here; with --hidden, --layers.",
    )(command)
    return click.option(
        "--model-config",
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        help="The model's config.json, when its shape is not known here.",
    )(command)


def given(model_config: Path | None, params: int | None, **numbers: int | None) -> Shape | None:
    """The shape that was typed, if one was; raises BadInput for half of one.

    With `model_config`, `params` is its exact count.
    """
    from launcher.estimate import shapes

    said = {name: value for name, value in numbers.items() if value is not None}
    if model_config is not None:
        if said:
            raise BadInput(
                f"--model-config says the shape, and so does --{_typed(next(iter(said)))}",
                hint="give one of them",
            )
        return shapes.from_config_file(model_config, params=params)
    if params is None and not said:
        return None
    if params is None or "hidden" not in said or "layers" not in said:
        wanted = {"params": params, "hidden": said.get("hidden"), "layers": said.get("layers")}
        lacks = next(name for name, value in wanted.items() if value is None)
        raise BadInput(
            f"a shape takes --params, --hidden and --layers, and --{lacks} is not given",
            hint="or name its config.json: --model-config PATH",
        )
    return shapes.from_numbers(
        params=params,
        hidden=said["hidden"],
        layers=said["layers"],
        vocab=said.get("vocab", 0),
        heads=said.get("heads", 0),
        kv_heads=said.get("kv_heads", 0),
        intermediate=said.get("intermediate", 0),
    )


def _typed(name: str) -> str:
    return name.replace("_", "-")
