"""What a recipe's references, modules and `include` stand for on this machine, listed."""

from __future__ import annotations

import glob
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from backends.errors import Refused
from launcher.bundle import folders, missing, modules
from launcher.bundle.folders import Found
from launcher.bundle.layout import Spot, spot
from launcher.recipe import Recipe, keypath, references
from launcher.recipe.references import Fate, Kind, Reference
from launcher.wording import quoted, shown


@dataclass(frozen=True)
class Item:
    """One thing that a recipe names, and the files it is here.

    head     `text`, or of a glob the part before the first wildcard; `spot` is where that leads
    found    the files that travel, relative to `spot`
    where    begins every complaint about them
    rewrite  the config's value may have to change; it is a path
    """

    key: keypath.KeyPath
    kind: Kind
    text: str
    head: str
    spot: Spot
    found: list[Found]
    folder: bool
    where: str
    rewrite: bool = True


def collect(recipe: Recipe, refs: list[Reference]) -> list[Item]:
    """All that travels, in the order it is named. Raises Refused for what cannot."""
    return [
        *(_item(recipe, ref, refs) for ref in refs if ref.fate is Fate.LOCAL),
        *_modules(recipe),
        *_included(recipe),
    ]


def _item(recipe: Recipe, ref: Reference, refs: list[Reference]) -> Item:
    where = recipe.where(ref.key)
    head = (
        ref.text
        if len(ref.paths) == 1 and references.exists(references.here(ref.text, recipe.base_dir))
        else _head(ref.text)
    )
    start = spot(head, recipe.base_dir)
    folders.require_unicode(ref.text, recipe.base_dir, where)
    whole = head == ref.text
    folder = whole and ref.paths[0].is_dir()
    if not whole:
        found = [
            Found(
                path, PurePosixPath(posixpath.relpath(path, references.here(head, recipe.base_dir)))
            )
            for path in ref.paths
        ]
    elif folder and ref.kind is Kind.DATA and _only_its_files(ref, refs, recipe.base_dir):
        found = []
    elif folder and references.is_vast(ref.paths[0]):
        sentence, fix = missing.too_vast(ref)
        raise Refused(f"{where}: {sentence}", hint=fix)
    else:
        found = folders.listing(ref.paths[0], ref.kind, where=where)
        if folder and not found:
            raise Refused(f"{where}: the folder {shown(ref.text)} holds no files that could travel")
    return Item(ref.key, ref.kind, ref.text, head, start, found, folder, where)


def _only_its_files(ref: Reference, refs: list[Reference], base: Path) -> bool:
    """Whether a data folder is there only to hold its `data_files`, which travel by themselves."""
    if ref.key[-1] != "path":
        return False
    inside = [other for other in refs if other.key[: len(ref.key)] == (*ref.key[:-1], "data_files")]
    folder = spot(ref.text, base)
    laid_out_alike = folder.relative or folder.path.is_relative_to(base)
    starts = [spot(_head(other.text), base) for other in inside]
    holds = any(
        start.path.is_relative_to(folder.path)
        and (start.relative or start.path.is_relative_to(base))
        for start in starts
    )
    return bool(starts) and laid_out_alike and (holds or base.is_relative_to(folder.path))


def _head(text: str) -> str:
    """The beginning of a glob, up to the first part with a wildcard."""
    parts = PurePosixPath(text).parts
    plain = next((i for i, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    return str(PurePosixPath(*parts[:plain])) if plain < len(parts) else text


def _modules(recipe: Recipe) -> Iterator[Item]:
    for named in modules.find(recipe.config, recipe.base_dir):
        for file in modules.with_imports(named.files, recipe.base_dir) if named.files else ():
            yield Item(
                named.key,
                Kind.MODULE,
                named.dotted,
                "",
                Spot(file, relative=True),
                [Found(file, PurePosixPath())],
                folder=False,
                where=recipe.where(named.key),
                rewrite=False,
            )


def _included(recipe: Recipe) -> Iterator[Item]:
    for index, pattern in enumerate(recipe.launch.include):
        where = recipe.where_said(["include", index])
        folders.require_unicode(pattern, recipe.base_dir, where)
        names = [pattern]
        if not references.exists(recipe.base_dir / pattern):
            names = sorted(glob.glob(pattern, root_dir=recipe.base_dir, recursive=True))  # noqa: PTH207
        if not names:
            raise Refused(
                f"{where}: nothing matches {quoted(pattern)}",
                hint=f"include starts from {shown(recipe.base_dir)}",
            )
        for name in names:
            path = recipe.base_dir / name
            if path.is_dir() and name != pattern and "**" in pattern:
                continue  # its files match by themselves
            found = folders.listing(path, Kind.INCLUDE, where=where)
            start = spot(name, recipe.base_dir)
            key = ("include", index)
            yield Item(
                key, Kind.INCLUDE, name, name, start, found, path.is_dir(), where, rewrite=False
            )
