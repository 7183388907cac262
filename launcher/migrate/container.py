"""Paths inside axolotl's own container, which are nowhere on the user's machine.

The deepspeed files that recipes of 2024 name are not in axolotl's package: ours, in
`configs/deepspeed`, are laid beside the recipe under the name that works in both places.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from launcher import bundled
from launcher.migrate.datasets import entries
from launcher.migrate.edits import Put, Step
from launcher.recipe.references import exists, here

Config = dict[str, Any]

FOLDER = "deepspeed_configs"
_CONTAINER = "/workspace/"


def bundled_deepspeed(text: str) -> Path | None:
    """Our file of the name that a path of a container ends in; None when we have none."""
    path = PurePosixPath(text)
    if path.parent.name not in {"deepspeed", FOLDER}:
        return None
    ours = bundled.configs_dir() / "deepspeed" / path.name
    return ours if path.suffix == ".json" and ours.is_file() else None


def deepspeed(config: Config, base: Path) -> Iterator[Step]:
    """A deepspeed config that is not there, and that we can supply."""
    text = config.get("deepspeed")
    if not isinstance(text, str) or not text or exists(here(text, base)):
        return
    ours = bundled_deepspeed(text)
    if ours is not None and text != (place := f"{FOLDER}/{ours.name}"):
        says = f"{text} is a path of axolotl's container: {place} is laid beside the recipe"
        yield Step(("deepspeed",), says, (Put(("deepspeed",), place),))


def paths(config: Config, base: Path) -> Iterator[Step]:
    """Data sets and models below /workspace, where a file of that name lies beside the recipe."""
    holders = [((), config, "base_model"), ((), config, "lora_model_dir")]
    found = [(at, entry, "path") for at, entry in entries(config)]
    for at, holder, key in (*holders, *found):
        text = holder.get(key)
        if not isinstance(text, str) or not text.startswith(_CONTAINER) or exists(Path(text)):
            continue
        near = _beside(text, base)
        says = f"{text} is a path of a container"
        if near is None:
            yield Step((*at, key), f"{says}: name the file or the hub id that is meant")
        else:
            yield Step((*at, key), f"{says}: {near} is here", (Put((*at, key), near),))


def _beside(text: str, base: Path) -> str | None:
    """The longest end of the path that exists from the recipe's folder."""
    parts = PurePosixPath(text).parts[2:]
    ends = ["/".join(parts[start:]) for start in range(len(parts))]
    return next((end for end in ends if exists(base / end)), None)
