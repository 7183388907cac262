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

    What only one of its profiles refers to comes along, and what lies beside its data: held-out
    rows, a checker.

    Raises BadInput when one of them is there already: nothing is ever overwritten.
    """
    recipe = _bundled(name)
    source = _file(name)
    lines = source.read_text("utf-8").splitlines(keepends=True)
    texts: dict[Path, str] = {}
    if recipe.said is not None and recipe.config_origin != recipe.origin:
        lines[recipe.said.line(["config"]) - 1] = f"config: {_CONFIG}\n"
        texts[into / _CONFIG] = recipe.config_text
    texts = {into / source.name: "".join(lines), **texts}
    files: dict[Path, Path] = {}
    for profile in (None, *recipe.launch.profiles):
        files |= _referred(_bundled(name, profile), into)
    for here in _beside_data(recipe):
        files[into / here.relative_to(bundled.configs_dir().resolve())] = here
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


def _bundled(name: str, profile: str | None = None) -> Recipe:
    return load(_file(name).stem, profile=profile, cwd=bundled.recipes_dir())


def _referred(recipe: Recipe, into: Path) -> dict[Path, Path]:
    """Where each file that the recipe refers to is copied, and where it lies."""
    from launcher import bundle

    gathered = bundle.gather(recipe)
    files = {_below(into, file.at, gathered.workdir): file.here for file in gathered.files}
    for cache in gathered.caches:
        for file in cache.tree.files:
            files[_below(into, cache.at / file.at, gathered.workdir)] = file.here
    return files


def _beside_data(recipe: Recipe) -> list[Path]:
    """The files in the folder of each data set, which is the example's own."""
    paths = [recipe.base_dir / str(entry["path"]) for entry in recipe.config.get("datasets", ())]
    folders = dict.fromkeys(path.parent.resolve() for path in paths if path.is_file())
    return [path for folder in folders for path in sorted(folder.iterdir()) if path.is_file()]


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
