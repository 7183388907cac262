"""What axolotl's own word comes to, as the problems that every other check finds."""

from __future__ import annotations

from collections.abc import Iterator

from launcher.deep import Deep, Rows
from launcher.preflight import Problem
from launcher.recipe import Recipe
from launcher.wording import shown

_SPLITS = ("datasets", "test_datasets")


def problems(recipe: Recipe, found: Deep) -> list[Problem]:
    """Errors for what it refuses, warnings for rows that do not train as they stand."""
    told = [
        Problem(
            "error",
            _where(recipe, key),
            f"axolotl refuses it on {found.target}: {f'{shown(key)}: ' if key else ''}{says}",
        )
        for key, says in found.refused
    ]
    if found.failed:
        told.append(
            Problem(
                "error",
                recipe.where("datasets"),
                f"axolotl cannot prepare the data: {found.failed}",
            )
        )
    for split, rows in zip(_SPLITS, found.datasets, strict=False):
        told += _rows(recipe, split, rows)
    return told


def counts(found: Deep) -> list[str]:
    """A line for each split: exact numbers, of this tokenizer and this template."""
    return [
        f"{split}: {rows.left:,} of {rows.rows:,} rows stay, {rows.tokens:,} tokens, "
        f"{rows.trained:,} of them trained on; the longest row has {rows.longest:,}"
        for split, rows in zip(_SPLITS, found.datasets, strict=False)
    ]


def _rows(recipe: Recipe, split: str, rows: Rows) -> Iterator[Problem]:
    where = recipe.where("sequence_len")
    if rows.long and rows.strategy == "drop":
        yield Problem(
            "warning",
            where,
            f"{rows.long:,} of {rows.rows:,} rows of {split} have more than {rows.limit:,} tokens: "
            "axolotl drops them",
            "raise sequence_len, or say excess_length_strategy: truncate",
        )
    elif rows.long:
        yield Problem(
            "warning",
            where,
            f"{rows.long:,} of {rows.rows:,} rows of {split} have more than {rows.limit:,} tokens: "
            "axolotl cuts off what is more",
            "raise sequence_len, where the end of the row matters",
        )
    if rows.short:
        yield Problem(
            "warning",
            recipe.where(split),
            f"{rows.short:,} of {rows.rows:,} rows of {split} are next to empty: axolotl drops "
            "them",
        )
    if rows.nothing:
        yield Problem(
            "warning",
            recipe.where(split),
            f"{rows.nothing:,} of {rows.left:,} rows of {split} have nothing to train on: every "
            "token is masked",
            "look at train_on_inputs, roles_to_train, and the template",
        )


def _where(recipe: Recipe, key: str) -> str:
    """The line of a key as pydantic spells it: `datasets.0.type`; the config's for one it made."""
    path = tuple(int(part) if part.isdigit() else part for part in key.split(".") if part)
    return recipe.where(path) if path else recipe.config_origin
