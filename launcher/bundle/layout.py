"""Where local files are laid in the run directory, so that the config's paths stay true.

`bundle/` mirrors the recipe's folder. When a path leads upwards (`../data/x`), `bundle/` mirrors a
folder that lies high enough, and the working directory is below it: `bundle/recipe-folder`. What is
named by an absolute path, or by `~`, and lies in that mirror, gets a relative path; elsewhere it
goes under `_absolute/`. Either way the config is rewritten, and says so.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath

from launcher.recipe.references import expanded

ROOT = PurePosixPath("bundle")


@dataclass(frozen=True)
class Spot:
    """Where a path of the config leads on this machine: a real, normal, absolute path."""

    path: Path
    relative: bool
    """Written relative to the working directory, without a detour such as `sub/../x`."""


@dataclass(frozen=True)
class Layout:
    """The mirror: `base` is the recipe's folder, `levels` how far above it `bundle/` begins."""

    base: Path
    levels: int
    elsewhere: str = "_absolute"

    @property
    def workdir(self) -> PurePosixPath:
        """The job's working directory, relative to the run directory."""
        return ROOT.joinpath(*self.base.parts[len(self.base.parts) - self.levels :])

    def at(self, spot: Spot) -> PurePosixPath:
        """Where `spot` is laid out, relative to the run directory."""
        top = self.base.parents[self.levels - 1] if self.levels else self.base
        if spot.path.is_relative_to(top):
            return ROOT / PurePosixPath(spot.path.relative_to(top))
        folder = hashlib.sha256(os.fsencode(spot.path.parent)).hexdigest()[:8]
        return self.workdir / self.elsewhere / folder / (spot.path.name or "root")

    def written(self, text: str, at: PurePosixPath) -> str:
        """How the config names what is at `at`: as it did, wherever that still leads there."""
        plain = not text.startswith("~") and not detour(text)
        if plain and posixpath.normpath(self.workdir / text) == str(at):
            return text
        relative = posixpath.relpath(at, self.workdir)
        return f"./{relative}" if relative.startswith(("~", "-")) else relative


def spot(text: str, base: Path) -> Spot:
    """Where `text` leads when the working directory is `base` (absolute, without links)."""
    absolute = expanded(text)
    if os.path.isabs(absolute) or detour(text):  # noqa: PTH117
        path = base / absolute
        if path.name == "..":
            return Spot(Path(os.path.realpath(path)), relative=not Path(absolute).is_absolute())
        real = Path(os.path.realpath(path.parent)) / path.name
        return Spot(real, relative=not Path(absolute).is_absolute())
    return Spot(Path(os.path.normpath(base / text)), relative=True)


def detour(text: str) -> bool:
    """Whether a path goes down and up again: it needs a folder that may not travel."""
    parts = PurePosixPath(text).parts
    return any(part == ".." and before != ".." for before, part in pairwise(parts))


def plan(base: Path, spots: Iterable[Spot]) -> Layout:
    """The layout that holds every relative spot, and no more of the folders above than needed."""
    levels = 0
    top_names = set()
    for each in spots:
        if each.relative:
            steps = Path(os.path.relpath(each.path, base)).parts
            levels = max(levels, sum(step == ".." for step in steps))
        if each.path.is_relative_to(base) and each.path != base:
            top_names.add(each.path.relative_to(base).parts[0])
    elsewhere = "_absolute"
    while elsewhere in top_names:
        elsewhere += "_"
    return Layout(base, levels, elsewhere)
