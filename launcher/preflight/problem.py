"""What a check finds, and what a check may look at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from launcher.preflight.lengths import Tally
from launcher.recipe import Recipe, references
from launcher.recipe.references import Reference

if TYPE_CHECKING:
    from launcher.bundle import Bundle

DATASET_KEYS = ("datasets", "test_datasets", "pretraining_dataset")


@dataclass(frozen=True)
class Problem:
    """One thing wrong.

    severity  an error stops the launch; a warning is printed
    where     `file:line`, or `file row N`
    message   one sentence
    fix       what to do about it; may be empty
    """

    severity: Literal["error", "warning"]
    where: str
    message: str
    fix: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


@dataclass(frozen=True)
class Look:
    """What a check looks at. `bundle` is None while nothing has been gathered yet.

    secrets  names of the command line's secrets; those of the recipe stand in it
    gpu      the kind of GPU it would run on; None for none, or one that is not chosen yet
    gpus     how many of them
    goes_on  what makes it go on from a checkpoint after it was cut short (`--spot`); empty: nothing
    tally    filled while the data are read
    """

    recipe: Recipe
    bundle: Bundle | None = None
    secrets: tuple[str, ...] = ()
    gpu: str | None = None
    gpus: int = 1
    goes_on: str = ""
    tally: Tally = field(default_factory=Tally, compare=False)

    @property
    def config(self) -> dict[str, Any]:
        """What axolotl will read."""
        return self.recipe.config

    @cached_property
    def references(self) -> list[Reference]:
        """Everything the config refers to."""
        return references.find(self.config, self.recipe.base_dir)

    def datasets(self) -> Iterator[tuple[tuple[str, int], dict[str, Any]]]:
        """The key path and the mapping of every data set that is well formed."""
        for key in DATASET_KEYS:
            entries = self.config.get(key)
            for index, entry in enumerate(entries if isinstance(entries, list) else []):
                if isinstance(entry, dict):
                    yield (key, index), entry

    def error(self, key: tuple[str | int, ...], message: str, fix: str = "") -> Problem:
        """An error at a key of the config."""
        return Problem("error", self.recipe.where(key), message, fix)

    def warning(self, key: tuple[str | int, ...], message: str, fix: str = "") -> Problem:
        """A warning at a key of the config."""
        return Problem("warning", self.recipe.where(key), message, fix)


Check = Callable[[Look], Iterator[Problem]]
"""A small function that looks for one kind of mistake."""
