"""Everything on this machine that a recipe refers to, laid out for a job; and nothing else.

`.gitignore` plays no part: what the recipe names travels, what it does not name stays.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from backends.errors import Refused
from backends.job import Cache, LocalFile
from backends.protocol import Progress, silent
from launcher.bundle import folders, missing
from launcher.bundle.folders import cache_of
from launcher.bundle.items import Item, collect
from launcher.bundle.layout import Layout, plan
from launcher.bundle.packing import pack, place
from launcher.changes import Change
from launcher.recipe import Recipe, keypath, overrides, references
from launcher.recipe.references import Fate, Kind, Reference, expanded

__all__ = ["Bundle", "HubRef", "Use", "cache_of", "gather"]

CACHE_FROM_BYTES = 64 * 1024 * 1024
"""A folder of data this large is sent once and shared by later jobs."""


@dataclass(frozen=True)
class HubRef:
    """Something the job fetches, or uploads, over the network: the key that names it, and its name.

    kind  what it is (`model`, `data set`, `upload`, …)
    """

    key: str
    id: str
    kind: str


@dataclass(frozen=True)
class Use:
    """What one value of the recipe brings along: for the list that is shown.

    key         as `where` takes it; `include[0]` for a launch key
    at          where it lies, relative to the run directory
    """

    key: str
    kind: Kind
    text: str
    at: PurePosixPath
    files: int
    size_bytes: int


@dataclass(frozen=True)
class Bundle:
    """What travels, and the config that finds it there.

    files     single files, `at` relative to the run directory, each inside `bundle/`
    caches    folders shared between jobs: models, large data sets
    workdir   the job's working directory, `bundle` or a folder below it
    config    the recipe's config, with the few paths that had to be rewritten (`changes`)
    hub_refs  what is fetched from, or uploaded to, the network
    provided  the ids that the recipe's `models` bring without a hub
    """

    files: tuple[LocalFile, ...]
    caches: tuple[Cache, ...]
    workdir: PurePosixPath
    config: dict[str, Any]
    changes: tuple[Change, ...]
    hub_refs: tuple[HubRef, ...]
    provided: tuple[HubRef, ...]
    references: tuple[Use, ...]
    data_places: frozenset[PurePosixPath]

    @property
    def offline(self) -> bool:
        """Whether the job needs no hub, bucket or URL."""
        return not self.hub_refs

    @property
    def size_bytes(self) -> int:
        """What travels at most, in bytes; a cache that the other side holds costs nothing."""
        return sum(file.size_bytes for file in self.files) + sum(
            cache.tree.size_bytes for cache in self.caches
        )

    def is_data(self, file: LocalFile) -> bool:
        """Whether the file is data: needed by training and evaluation only."""
        return file.at in self.data_places


def gather(
    recipe: Recipe,
    *,
    cache_threshold_bytes: int = CACHE_FROM_BYTES,
    progress: Progress = silent,
) -> Bundle:
    """Find, lay out and hash everything local that the recipe refers to.

    A model folder, and a data folder of at least `cache_threshold_bytes`, becomes a `Cache`.
    Raises Refused, naming file and line, for a path that leads nowhere or cannot travel.
    """
    refs = references.find(recipe.config, recipe.base_dir)
    for ref in refs:
        if ref.fate is Fate.MISSING:
            sentence, fix = missing.explain(recipe, ref)
            raise Refused(f"{recipe.where(ref.key)}: {sentence}", hint=fix)
    items = collect(recipe, refs)
    layout = plan(recipe.base_dir, (item.spot for item in items))
    files, caches = pack(items, layout, cache_threshold_bytes, progress)
    config, changes = _rewritten(recipe, items, layout)
    away = [ref for ref in refs if ref.fate in {Fate.HUB, Fate.REMOTE}]
    made = [ref for ref in away if ref.kind is Kind.MODEL and ref.text in recipe.launch.models]
    return Bundle(
        files=tuple(files.values()),
        caches=tuple(caches),
        workdir=layout.workdir,
        config=config,
        changes=changes,
        hub_refs=tuple(_hub_ref(ref) for ref in away if ref not in made),
        provided=tuple(_hub_ref(ref) for ref in made),
        references=tuple(_use(item, layout) for item in items),
        data_places=frozenset(
            place(item, each, layout)
            for item in items
            if item.kind is Kind.DATA
            for each in item.found
        ),
    )


def _hub_ref(ref: Reference) -> HubRef:
    return HubRef(keypath.spell(ref.key), ref.text, str(ref.kind))


def _rewritten(
    recipe: Recipe, items: list[Item], layout: Layout
) -> tuple[dict[str, Any], tuple[Change, ...]]:
    """The config with the paths that the mirror cannot keep as they are, and what was changed."""
    config = overrides.unshared(recipe.config)
    changes: list[Change] = []
    for item in items:
        if not item.rewrite:
            continue
        after = layout.written(item.head, layout.at(item.spot))
        if after == item.head:
            continue
        tail = PurePosixPath(item.text).parts[len(PurePosixPath(item.head).parts) :]
        text = str(PurePosixPath(after, *tail)) if tail else after
        why = (
            "an absolute path of this machine; the file travels and lies here"
            if expanded(item.text).startswith("/")
            else "the same file by a path that needs no other folder"
        )
        keypath.put(config, item.key, text)
        changes.append(Change(keypath.spell(item.key), item.text, text, why))
    return config, tuple(changes)


def _use(item: Item, layout: Layout) -> Use:
    return Use(
        key=keypath.spell(item.key),
        kind=item.kind,
        text=item.text,
        at=layout.at(item.spot),
        files=len(item.found),
        size_bytes=folders.size_of(item.found),
    )
