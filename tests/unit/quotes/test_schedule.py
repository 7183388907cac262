"""How long a recipe trains, and how often it evaluates and saves."""

from __future__ import annotations

from typing import Any

import pytest

from backends.errors import BadInput
from launcher.quotes import schedule


@pytest.mark.parametrize(
    ("config", "evaluations", "saves"),
    [
        ({}, 0, 3),
        ({"val_set_size": 0.1}, 3, 3),
        ({"val_set_size": 0.1, "evals_per_epoch": 4}, 12, 3),
        ({"val_set_size": 0.1, "eval_steps": 50}, 6, 3),
        ({"test_datasets": [{"path": "a"}], "eval_steps": 0.1}, 10, 3),
        ({"val_set_size": 0.1, "eval_strategy": "no", "save_strategy": "no"}, 0, 0),
        ({"save_steps": 7}, 0, 42),
        ({"saves_per_epoch": 1000}, 0, 300),
    ],
)
def test_times_in_three_hundred_steps(config: dict[str, Any], evaluations: int, saves: int) -> None:
    found = schedule.of({"num_epochs": 3, **config})
    assert found.evaluates.times(300, found.epochs) == evaluations
    assert found.saves.times(300, found.epochs) == saves


@pytest.mark.parametrize(("given", "steps"), [(None, None), (-1, None), (0, None), ("20", 20)])
def test_max_steps(given: Any, steps: int | None) -> None:
    assert schedule.of({"max_steps": given}).max_steps == steps


def test_rows_that_are_held_out_are_a_share_or_a_number() -> None:
    assert schedule.of({"val_set_size": 0.25}).share_held_out(100) == 0.25
    assert schedule.of({"val_set_size": 50}).share_held_out(100) == 0.5
    assert schedule.of({"val_set_size": 500}).share_held_out(100) == 1.0


@pytest.mark.parametrize("key", ["num_epochs", "max_steps", "val_set_size", "save_steps"])
@pytest.mark.parametrize("odd", ["three", [1], -7, float("nan"), float("inf"), {}])
def test_what_is_no_number_is_said(key: str, odd: Any) -> None:
    with pytest.raises(BadInput, match=f"{key} is"):
        schedule.of({key: odd})
