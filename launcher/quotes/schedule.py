"""How long a recipe trains, and how often it evaluates and saves; as axolotl reads its keys."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from backends.errors import BadInput
from launcher.estimate.keys import Config, number

MOST_EPOCHS = 100_000


@dataclass(frozen=True)
class Often:
    """So many times an epoch, or every so many steps; both None: never.

    every  below one it is a share of all steps
    """

    per_epoch: float | None = None
    every: float | None = None

    def times(self, steps: int, epochs: float) -> int:
        """Times in a training of so many steps."""
        if self.every is not None:
            apart = self.every * steps if self.every < 1 else self.every
            return math.floor(steps / max(apart, 1))
        return min(steps, math.ceil((self.per_epoch or 0) * epochs))


@dataclass(frozen=True)
class Schedule:
    """When a training ends, and what interrupts it.

    max_steps  ends it before the epochs are over; None: they decide
    held_out   of the training data, for evaluation: a share below one, or rows
    """

    epochs: float = 1.0
    max_steps: int | None = None
    held_out: float = 0.0
    evaluates: Often = Often()
    saves: Often = Often()

    def share_held_out(self, rows: int) -> float:
        """Of so many rows."""
        share = self.held_out if self.held_out < 1 else self.held_out / max(rows, 1)
        return min(share, 1.0)


def of(config: Config) -> Schedule:
    """The schedule of a config; raises BadInput for a number that is none."""
    held_out = _amount(config, "val_set_size") or 0.0
    evaluated = bool(held_out or config.get("test_datasets"))
    return Schedule(
        epochs=_amount(config, "num_epochs", most=MOST_EPOCHS) or 1.0,
        max_steps=_steps(config),
        held_out=held_out,
        evaluates=_often(config, "eval") if evaluated else Often(),
        saves=_often(config, "save"),
    )


def _often(config: Config, what: str) -> Often:
    """Without a key it is once an epoch."""
    if str(config.get(f"{what}_strategy") or "").lower() == "no":
        return Often()
    if every := _amount(config, f"{what}_steps"):
        return Often(every=every)
    return Often(per_epoch=_amount(config, f"{what}s_per_epoch") or 1.0)


def _steps(config: Config) -> int | None:
    value: Any = config.get("max_steps")
    if value == -1:  # Hugging Face's trainer's way to say that there is no limit
        return None
    return math.ceil(_amount(config, "max_steps") or 0) or None


def _amount(config: Config, key: str, *, most: float = 1e15) -> float | None:
    """A number from zero on; None where the key is not set."""
    if config.get(key) is None:
        return None
    found = number(config, key, 0.0)
    if not 0 <= found <= most:
        raise BadInput(f"{key} is {config[key]!r}", hint=f"it is a number from 0 to {most:g}")
    return found
