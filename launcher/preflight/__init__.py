"""Every mistake in a recipe or its data that can be known here, said here, before a cent is spent.

A check is a small function in `CHECKS`: it takes a `Look` and yields `Problem`s.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from backends.errors import Refused
from launcher.preflight import files, keys, rows, shape, tokens
from launcher.preflight.problem import Check, Look, Problem
from launcher.recipe import Recipe

if TYPE_CHECKING:
    from launcher.bundle import Bundle

__all__ = ["CHECKS", "Problem", "RefusedByPreflight", "examine", "not_checked", "require_ok"]

CHECKS: tuple[Check, ...] = (
    shape.essentials,
    shape.dataset_lists,
    keys.unknown_keys,
    keys.unknown_template,
    files.missing_files,
    shape.old_ways,
    shape.nothing_to_evaluate,
    shape.local_files,
    shape.taken_for_a_hub_id,
    files.deepspeed_json,
    files.user_modules,
    tokens.trackers,
    tokens.hub,
    rows.data_rows,
)
"""In the order of what it makes sense to mend first; reading the data, the slowest, is last."""

_TOLD = 5


class RefusedByPreflight(Refused):
    """The first error is the sentence; `problems` holds all that was found, warnings too."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        errors = [problem for problem in problems if problem.severity == "error"]
        also = [f"also {error}" for error in errors[1:_TOLD]]
        if len(errors) > _TOLD:
            also.append(f"and {len(errors) - _TOLD} more")
        super().__init__(str(errors[0]), hint="\n".join(filter(None, (errors[0].fix, *also))))
        self.problems = tuple(problems)


def examine(
    recipe: Recipe, bundle: Bundle | None = None, *, secrets: Sequence[str] = ()
) -> list[Problem]:
    """All that is wrong with a recipe and its data, errors first. Changes and sends nothing.

    secrets  names of variables the run gets beside those that the recipe itself names
    """
    look = Look(recipe, bundle, tuple(secrets))
    found = [problem for check in CHECKS for problem in check(look)]
    return sorted(dict.fromkeys(found), key=lambda problem: problem.severity != "error")


def not_checked(recipe: Recipe) -> list[str]:
    """The data that `examine` could not look into, each with why."""
    return list(dict.fromkeys(rows.not_read(Look(recipe))))


def require_ok(problems: Sequence[Problem]) -> list[Problem]:
    """The warnings, when there is nothing worse. Raises RefusedByPreflight for errors."""
    if any(problem.severity == "error" for problem in problems):
        raise RefusedByPreflight(problems)
    return list(problems)
