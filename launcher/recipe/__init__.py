"""Recipes: what to train, on what, where and within which limits, read from a file and checked.

Any axolotl YAML is a recipe. A *launch recipe* names a config (or holds one) and says more: data,
settings, hardware, budget, steps. `reading.is_launch` tells the two apart.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from backends.errors import BadInput, FtlaunchError, Refused
from launcher.changes import Change
from launcher.recipe import keypath, overrides, reading, references, source, yamltext
from launcher.recipe.keypath import KeyPath
from launcher.recipe.model import Budget, Hardware, LaunchRecipe, Profile, Steps
from launcher.recipe.recipe import Recipe
from launcher.recipe.yamltext import Document
from launcher.wording import did_you_mean, quoted, shown

__all__ = [
    "Budget",
    "Hardware",
    "LaunchRecipe",
    "Profile",
    "Recipe",
    "Steps",
    "changed",
    "load",
]


def load(
    source: str,
    *,
    profile: str | None = None,
    sets: Sequence[str] = (),
    data: Path | None = None,
    cwd: Path,
) -> Recipe:
    """Read the recipe `source`: a path, an https URL, or a bundled recipe's name.

    profile  one of the recipe's own `profiles`, put over its `set`
    sets     `KEY=VALUE` texts, put over the config in order, after the recipe's `set` and `data`
    data     a file or folder that takes the place of the first data set's path, last of all
    cwd      what relative paths on the command line start from

    Relative paths inside a config start from one folder for all of them: of the config's folder,
    the recipe's and `cwd`, the first from which the most of what the config names can be found.

    Raises BadInput for what the command line asks, Refused for what the files say.
    """
    text = _source.recipe(source, cwd=cwd)
    document = yamltext.parse(text.text, label=text.label)
    said = document if reading.is_launch(reading.mapping(document)) else None
    launch = LaunchRecipe() if said is None else reading.launch(said)
    config, prefix = (text, ()) if said is None else _config(text, said, launch)
    config_document = (
        document if config is text else yamltext.parse(config.text, label=config.label)
    )
    found = config_document.value["config"] if prefix else reading.mapping(config_document)
    if said is not None:
        _require_plain(found, config_document, prefix)
    draft = _Draft(overrides.unshared(found))
    if said is not None:
        _apply_set(draft, said, launch.set, ("set",), "the recipe's set")
    launch = _with_profile(draft, said, launch, profile, text.label)
    trial = _Draft(overrides.unshared(draft.config))
    _apply_sets(trial, sets)
    base = _base(trial.config, (config.folder, text.folder, cwd))
    if launch.data is not None and data is None and said is not None:
        _apply_data(draft, said, launch.data, (text.folder or cwd, cwd), base)
    _apply_sets(draft, sets)
    if data is not None:
        _apply_option(draft, data, cwd, base)
    return Recipe(
        name=text.name,
        origin=text.label,
        base_dir=base,
        config=draft.config,
        config_text=config.text,
        config_origin=config.label,
        launch=launch,
        changes=tuple(draft.changes),
        said=said,
        _config=config_document,
        _prefix=prefix,
        _over=draft.over,
    )


def changed(recipe: Recipe, sets: Sequence[str]) -> Recipe:
    """The same with further `--set` arguments; nothing is read anew. Raises BadInput."""
    draft = _Draft(overrides.unshared(recipe.config))
    _apply_sets(draft, sets)
    changes = (*recipe.changes, *draft.changes)
    return replace(recipe, config=draft.config, changes=changes)


_source = source


class _Draft:
    """A config on its way: its values, where each override was said, and what changed."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        self.over: dict[KeyPath, str] = {}
        self.changes: list[Change] = []

    def assign(
        self, path: KeyPath, value: Any, said_at: str, why: str, complain: overrides.Complaint
    ) -> None:
        settled, before = overrides.assign(self.config, path, value, complain)
        for inner in [key for key in self.over if key[: len(settled)] == settled]:
            del self.over[inner]
        self.over[settled] = said_at
        self.changes.append(Change(keypath.spell(settled), before, value, why))


def _config(text: source.Text, said: Document, launch: LaunchRecipe) -> tuple[source.Text, KeyPath]:
    """The text the config stands in, and where in it."""
    if launch.config is None:
        raise Refused(
            f"{said.label}: it says how to launch, but not what: the key config is missing",
            hint="add `config:` with a path, an https URL, a bundled name or the mapping itself; "
            "if this is meant as a plain axolotl config, it lacks base_model",
        )
    if isinstance(launch.config, dict):
        return text, ("config",)
    where = said.where(["config"])
    if text.folder is None and "://" not in launch.config:
        found = _source.config(launch.config, folder=Path(os.devnull), where=where)
    else:
        found = _source.config(launch.config, folder=text.folder or Path(), where=where)
    return found, ()


def _require_plain(config: dict[str, Any], document: Document, prefix: KeyPath) -> None:
    """Refuse a launch recipe where the config of one belongs."""
    reading.require_text_keys(document, prefix)
    if reading.is_launch(config):
        raise Refused(
            f"{document.where(prefix)}: the config holds launch keys itself",
            hint="a launch recipe names an axolotl config; launch keys stand in the recipe",
        )


def _with_profile(
    draft: _Draft, said: Document | None, launch: LaunchRecipe, name: str | None, label: str
) -> LaunchRecipe:
    """Put the profile's settings in; the recipe as it then is. Raises BadInput: there is none."""
    if name is None:
        return launch
    profile = launch.profiles.get(name)
    if profile is None or said is None:
        there = ", ".join(launch.profiles)
        raise BadInput(
            f"{label} has no profile {quoted(name)}",
            hint=f"{did_you_mean(name, list(launch.profiles))} it has: {there}".strip()
            if there
            else "it has none: a launch recipe names them under `profiles:`",
        )
    at = ("profiles", name, "set")
    _apply_set(draft, said, profile.set, at, f"the profile {name}")
    taken = {"hardware": profile.hardware, "steps": profile.steps}
    return launch.model_copy(update={key: part for key, part in taken.items() if part is not None})


def _apply_set(
    draft: _Draft, said: Document, values: Mapping[str, Any], at: Sequence[str], why: str
) -> None:
    for key, value in values.items():
        where = said.where([*at, key])

        def complain(sentence: str, hint: str, where: str = where) -> FtlaunchError:
            return Refused(f"{where}: {sentence}", hint=hint)

        try:
            path = keypath.parse(key)
        except ValueError as problem:
            raise Refused(f"{where}: {quoted(key)} does not name a key: {problem}") from None
        draft.assign(path, value, where, why, complain)


def _apply_sets(draft: _Draft, sets: Sequence[str]) -> None:
    for text in sets:
        path, value = overrides.split(text)
        key = keypath.spell(path)

        def complain(sentence: str, hint: str) -> FtlaunchError:
            return BadInput(f"--set {sentence}", hint=hint)

        draft.assign(path, value, f"--set {shown(key)}", "--set", complain)


def _base(config: dict[str, Any], candidates: Sequence[Path | None]) -> Path:
    """The first candidate from which the most references are found."""
    folders = list(dict.fromkeys(Path(os.path.realpath(each)) for each in candidates if each))

    def resolved(folder: Path) -> int:
        found = references.find(config, folder)
        return sum(each.fate is references.Fate.LOCAL for each in found)

    return max(folders, key=resolved)


def _apply_data(
    draft: _Draft, said: Document, text: str, folders: Sequence[Path], base: Path
) -> None:
    """The recipe's `data`: a path from the recipe's folder (or `cwd`), a hub id or a URL."""
    where = said.where(["data"])

    def complain(sentence: str, hint: str) -> FtlaunchError:
        return Refused(f"{where}: {sentence}", hint=hint)

    for folder in folders:
        if references.exists(path := references.here(text, folder)):
            _put(draft, path, base, said_at=where, why="the recipe's data", complain=complain)
            return
    if not (references.is_remote(text) or references.is_hub_id(text)):
        raise complain(f"there is no file {quoted(text)}", "give a path that exists, or a hub id")
    key, changes = overrides.put_data(
        draft.config, text, "the recipe's data", complain, folder=False
    )
    draft.over[key] = where
    draft.changes += changes


def _apply_option(draft: _Draft, data: Path, cwd: Path, base: Path) -> None:
    def complain(sentence: str, hint: str) -> FtlaunchError:
        return BadInput(f"--data {shown(data)}: {sentence}", hint=hint)

    path = cwd / data.expanduser()
    if not references.exists(path):
        hub = references.is_hub_id(str(data)) and len(data.parts) == 2
        way = f"; for a data set of the hub: --set datasets[0].path={data}" if hub else ""
        raise complain("there is no such file", f"give the path of a data file or folder{way}")
    _put(draft, path, base, said_at=f"--data {shown(data)}", why="--data", complain=complain)


def _put(
    draft: _Draft, path: Path, base: Path, *, said_at: str, why: str, complain: overrides.Complaint
) -> None:
    """Put a local file in; relative to the base where it lies inside, so that its layout stays."""
    absolute = Path(os.path.realpath(path.parent)) / path.name
    if path.name in {"", "..", "."}:
        absolute = Path(os.path.realpath(path))
    inside = absolute.is_relative_to(base) and absolute != base
    text = str(absolute.relative_to(base) if inside else absolute)
    if not text.isascii() and text != text.encode("utf-8", "replace").decode():
        raise complain("its name is not valid Unicode, which YAML cannot hold", "rename it")
    if inside and text.startswith("~"):
        text = f"./{text}"
    key, changes = overrides.put_data(draft.config, text, why, complain, folder=path.is_dir())
    draft.over[key] = said_at
    draft.changes += changes
