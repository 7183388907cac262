"""A bundled recipe for reading, or as a copy that the user can change."""

from __future__ import annotations

import os
import shutil
from pathlib import Path, PurePosixPath

from backends.errors import BadInput, Refused
from launcher import bundled
from launcher.recipe import Recipe, load
from launcher.wording import did_you_mean, quoted, shown

_CONFIG = "axolotl.yml"
"""The copied config's name, beside the recipe."""


def bundled_texts(name: str) -> list[tuple[str, str]]:
    """A bundled recipe's file name and text, and its config's, when that is another file."""
    recipe = _bundled(name)
    texts = [(recipe.origin, _file(name).read_text("utf-8"))]
    if recipe.config_origin != recipe.origin:
        texts.append((recipe.config_origin, recipe.config_text))
    return texts


def copy_bundled(name: str, into: Path) -> list[Path]:
    """Copy a bundled recipe, its config and the files it refers to; the recipe's copy is first.

    Raises BadInput when one of them is there already: nothing is ever overwritten.
    """
    from launcher import bundle

    recipe = _bundled(name)
    source = _file(name)
    lines = source.read_text("utf-8").splitlines(keepends=True)
    texts: dict[Path, str] = {}
    if recipe.said is not None and recipe.config_origin != recipe.origin:
        lines[recipe.said.line(["config"]) - 1] = f"config: {_CONFIG}\n"
        texts[into / _CONFIG] = recipe.config_text
    texts = {into / source.name: "".join(lines), **texts}
    gathered = bundle.gather(recipe)
    files = {_below(into, file.at, gathered.workdir): file.here for file in gathered.files}
    for cache in gathered.caches:
        for file in cache.tree.files:
            files[_below(into, cache.at / file.at, gathered.workdir)] = file.here
    for target in (*texts, *files):
        if os.path.lexists(target):
            raise BadInput(f"{shown(target)} is there already", hint="name another folder")
    try:
        for target, text in texts.items():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, "utf-8")
        for target, here in files.items():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(here, target)
    except OSError as problem:
        raise Refused(f"{shown(into)} cannot be written: {problem.strerror}") from None
    return [*texts, *files]


def _bundled(name: str) -> Recipe:
    return load(_file(name).stem, cwd=bundled.recipes_dir())


def _file(name: str) -> Path:
    found = bundled.find(bundled.recipes_dir(), name)
    if found is None:
        names = bundled.recipe_names()
        raise BadInput(
            f"there is no bundled recipe {quoted(name)}",
            hint=f"{did_you_mean(name, names)} bundled: {', '.join(names)}".strip(),
        )
    return found


def _below(into: Path, at: PurePosixPath, workdir: PurePosixPath) -> Path:
    relative = os.path.relpath(at, workdir)
    if relative.startswith(".."):
        raise Refused(f"the bundled recipe reaches above its own folder: {relative}")
    return into / relative
