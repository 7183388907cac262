"""Whatever stands behind a key, looking and migrating end in sentences, never in a traceback."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path
from typing import Any

import pytest
import yaml

from backends.errors import FtlaunchError
from launcher import preflight, recipe
from launcher.migrate import migrate
from launcher.preflight import keys, online
from launcher.preflight.retired import DEPRECATED, RETIRED

ODD: tuple[Any, ...] = (
    *("x", "", "2e-4", -1, 0, 1.5, True, False, 10**400, float("nan")),
    *([], [None], ["a", {"b": 1}], [1, [2]], {}, {"version": [1]}, {"num_generations": "x"}),
)
TOP = sorted((keys.known()["keys"].keys() | RETIRED.keys() | DEPRECATED.keys()) - {"datasets"})
INSIDE = sorted({*keys.known()["types"]["datasets[]"], "conversation", "train_on_split", "strict"})


def look_at(config: dict[str, Any], folder: Path) -> None:
    (folder / "r.yml").write_text(yaml.safe_dump(config, sort_keys=False))
    with contextlib.suppress(FtlaunchError):
        _, look = preflight.examined(recipe.load("r.yml", cwd=folder))
        preflight.on_targets(look, [("T4", 2)], spot=True)
        online.would_ask(look, online.Run(here=True))
    with contextlib.suppress(FtlaunchError):
        migrate("r.yml", cwd=folder)


@pytest.mark.parametrize("seed", range(8))
def test_odd_values_everywhere(seed: int, folder: Path) -> None:
    chance = random.Random(seed)
    for kind in ("alpaca", "chat_template", "sharegpt") * 6:
        entry = {"path": "o/s", "type": kind, chance.choice(INSIDE): chance.choice(ODD)}
        config: dict[str, Any] = {"base_model": "o/m", "datasets": [entry], "learning_rate": 1}
        config |= {key: chance.choice(ODD) for key in chance.sample(TOP, 25)}
        look_at(config, folder)


@pytest.mark.parametrize("odd", [[], {"a": [1]}, "", True, float("inf")], ids=str)
def test_one_odd_value_behind_each_key_that_is_compared(odd: object, folder: Path) -> None:
    config = {"base_model": "o/m", "datasets": [{"path": "o/s", "type": "sharegpt"}]}
    for key in (
        *("eval_strategy", "evaluation_strategy", "save_strategy", "gradient_checkpointing"),
        *("optimizer", "lr_scheduler", "adapter", "rl", "chat_template", "attn_implementation"),
        *("deepspeed", "plugins", "fsdp_config", "rope_scaling", "val_set_size"),
        "tensor_parallel_size",
    ):
        look_at({**config, key: odd}, folder)
