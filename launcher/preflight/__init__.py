"""Every mistake in a recipe or its data that can be known here, said here, before a cent is spent.

A check is a small function in `CHECKS`: it takes a `Look` and yields `Problem`s. What needs a
network is in `launcher.preflight.online`, which nothing here imports.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from backends.errors import Refused
from launcher.preflight import (
    adapters,
    files,
    keys,
    kinds,
    leaks,
    ranges,
    rows,
    shape,
    target,
    together,
    tokens,
    weights,
)
from launcher.preflight.problem import Check, Look, Problem
from launcher.recipe import Recipe

if TYPE_CHECKING:
    from launcher.bundle import Bundle
    from launcher.commands import Target

__all__ = [
    "CHECKS",
    "ON_TARGET",
    "Passed",
    "Problem",
    "RefusedByPreflight",
    "examine",
    "examined",
    "lengths",
    "not_checked",
    "on_target",
    "on_targets",
    "passed",
    "require_ok",
]

CHECKS: tuple[Check, ...] = (
    shape.essentials,
    kinds.required_keys,
    shape.dataset_lists,
    leaks.embedded_keys,
    keys.unknown_keys,
    keys.refused_keys,
    keys.unknown_template,
    kinds.wrong_kinds,
    ranges.impossible_numbers,
    ranges.unknown_names,
    ranges.unknown_types,
    together.schedule,
    together.evaluation_without_data,
    together.data,
    adapters.adapter,
    adapters.layers,
    weights.attention,
    weights.running,
    files.missing_files,
    files.vast_folders,
    shape.old_ways,
    shape.nothing_to_evaluate,
    shape.local_files,
    shape.taken_for_a_hub_id,
    files.deepspeed_json,
    files.user_modules,
    leaks.public_page,
    leaks.output_elsewhere,
    tokens.trackers,
    tokens.hub,
    rows.data_rows,
    rows.too_long,
)
"""In the order of what it makes sense to mend first; reading the data, the slowest, is last."""

ON_TARGET: tuple[Check, ...] = (
    target.unknown,
    target.capabilities,
    target.spread,
    target.too_many_gpus,
    target.losable,
)
"""What depends on where it runs, and on how: looked at when that is settled."""

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
    return examined(recipe, bundle, secrets=secrets)[0]


def examined(
    recipe: Recipe, bundle: Bundle | None = None, *, secrets: Sequence[str] = ()
) -> tuple[list[Problem], Look]:
    """What `examine` finds, and what it looked at: `on_target` needs the rows it counted."""
    look = Look(recipe, bundle, tuple(secrets))
    return _sorted([problem for check in CHECKS for problem in check(look)]), look


def on_target(look: Look, *, gpu: str | None, gpus: int, goes_on: str = "") -> list[Problem]:
    """What is wrong with running it there, errors first.

    gpu      the kind; None for none, or not known
    goes_on  what makes it go on from a checkpoint when it is cut short, as typed: `--spot`
    """
    there = replace(look, gpu=gpu, gpus=gpus, goes_on=goes_on)
    return _sorted([problem for check in ON_TARGET for problem in check(there)])


@dataclass(frozen=True)
class Passed:
    """A recipe in which nothing is wrong by itself; `warnings` are what was found."""

    look: Look
    warnings: tuple[Problem, ...]

    def on(self, gpu: str | None, target: Target, *, spot: bool, recover: bool) -> list[Problem]:
        """All warnings, also about the machine. Raises RefusedByPreflight for what it lacks."""
        kind = None if target.kind == "cpu" else gpu
        goes_on = "--recover" if recover else "--spot" if spot else ""
        count = max(1, target.gpus) * target.nodes
        found = on_target(self.look, gpu=kind, gpus=count, goes_on=goes_on)
        return [*self.warnings, *require_ok(found)]


def passed(recipe: Recipe, *, secrets: Sequence[str] = ()) -> Passed:
    """What is known before a machine is chosen. Raises RefusedByPreflight for errors."""
    problems, look = examined(recipe, secrets=secrets)
    return Passed(look, tuple(require_ok(problems)))


def on_targets(look: Look, gpus: Sequence[tuple[str, int]], *, spot: bool = False) -> list[Problem]:
    """The same for every kind of GPU that may be given: those asked for, else the recipe's own."""
    hardware = look.recipe.launch.hardware
    asked: Sequence[tuple[str | None, int]] = gpus or hardware.gpus or [(None, 1)]
    goes_on = "--recover" if hardware.recover else "--spot" if spot or hardware.spot else ""
    found: list[Problem] = []
    for kind, count in asked:
        gpu = None if kind and kind.lower() == "cpu" else kind
        found += on_target(look, gpu=gpu, gpus=count, goes_on=goes_on)
    return _sorted(found)


def not_checked(recipe: Recipe) -> list[str]:
    """The data that `examine` could not look into, each with why."""
    return list(dict.fromkeys(rows.not_read(Look(recipe))))


def lengths(look: Look) -> list[str]:
    """For each data set that was read: a bound on how many of its rows are too long."""
    return list(rows.lengths(look))


def require_ok(problems: Sequence[Problem]) -> list[Problem]:
    """The warnings, when there is nothing worse. Raises RefusedByPreflight for errors."""
    if any(problem.severity == "error" for problem in problems):
        raise RefusedByPreflight(problems)
    return list(problems)


def _sorted(found: Sequence[Problem]) -> list[Problem]:
    return sorted(dict.fromkeys(found), key=lambda problem: problem.severity != "error")
