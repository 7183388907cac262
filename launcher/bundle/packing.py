"""Items as files and caches with their digests, each at its place in the run directory."""

from __future__ import annotations

from pathlib import PurePosixPath

from backends.job import Cache, LocalFile, LocalTree
from backends.protocol import Progress
from launcher.bundle import folders
from launcher.bundle.folders import Found
from launcher.bundle.items import Item
from launcher.bundle.layout import Layout
from launcher.recipe.references import Kind

_WHOLE = frozenset({Kind.MODEL, Kind.ADAPTER, Kind.CHECKPOINT})
"""Folders that are one thing whatever their size."""


def place(item: Item, found: Found, layout: Layout) -> PurePosixPath:
    """Where one of an item's files is laid out."""
    return layout.at(item.spot) / found.inside


def pack(
    items: list[Item], layout: Layout, threshold: int, progress: Progress
) -> tuple[dict[PurePosixPath, LocalFile], list[Cache]]:
    """Read everything once: the single files by their place, and the shared folders.

    threshold  bytes from which a folder of data is shared
    """
    shared = _shared(items, layout, threshold)
    covered = {place(item, each, layout): item for item in shared.values() for each in item.found}
    total = folders.size_of([each for item in items for each in item.found])
    tell = folders.told(progress, total)
    caches: list[Cache] = []
    for at, item in shared.items():
        tree = []
        for each in item.found:
            tree.append(folders.read(each, each.inside, where=item.where))
            tell(tree[-1])
        caches.append(Cache(folders.key_of(tree), LocalTree(tuple(tree)), at))
    files: dict[PurePosixPath, LocalFile] = {}
    for item in items:
        for each in item.found:
            at = place(item, each, layout)
            if at not in covered and at not in files:
                files[at] = folders.read(each, at, where=item.where)
                tell(files[at])
    return files, caches


def _shared(items: list[Item], layout: Layout, threshold: int) -> dict[PurePosixPath, Item]:
    """The folders that become caches, by their place.

    A cache is one thing, seen read-only: a folder that another reference reaches into with files
    of its own, or that lies in another one, or around the working directory, travels as files.
    """
    places = [(layout.at(item.spot), item) for item in items]
    shared: dict[PurePosixPath, Item] = {}
    for at, item in places:
        model = item.kind in _WHOLE
        if not item.folder or not item.found or item.kind is Kind.INCLUDE or at in shared:
            continue
        if not model and folders.size_of(item.found) < threshold:
            continue
        own = {place(item, each, layout) for each in item.found}
        reached = any(
            place(other, each, layout).is_relative_to(at) and place(other, each, layout) not in own
            for _, other in places
            for each in other.found
        )
        inside = any(at != top and at.is_relative_to(top) for top in shared)
        if not reached and not inside and not layout.workdir.is_relative_to(at):
            shared = {top: each for top, each in shared.items() if not top.is_relative_to(at)}
            shared[at] = item
    return shared
