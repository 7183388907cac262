"""Folders that many jobs share, kept once under the digest of their content.

A file is shared with its original where the disk can share blocks, else by a hard link, else it is
copied: a base model of many gigabytes is not kept twice. A hard link also shares later changes made
in place, so a stamp of sizes and times is looked at before each use, and what changed is made anew.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable
from pathlib import Path

from backends.errors import Refused
from backends.job import Cache, LocalFile
from backends.lease import Finding
from backends.local import copying
from backends.local.shelf import Shelf, Stage, write_private

_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")
_TREE = "tree"
_STAMP = "stamp.json"


def held(shelf: Shelf, cache: Cache) -> bool:
    """Whether the cache is here, whole and as it was made."""
    folder = _folder(shelf, cache)
    try:
        stamp = json.loads((folder / _STAMP).read_bytes())
        return bool(stamp == _stamp(folder / _TREE, cache))
    except (OSError, ValueError):
        return False


def ensure(shelf: Shelf, cache: Cache, told: Callable[[int], None]) -> Path:
    """The cache's folder, made if it is not here. Safe against others who make the same one.

    Raises Refused for a file that is gone or has changed.
    """
    folder = _folder(shelf, cache)
    with shelf.claim(f".cache.{folder.name}"):
        if held(shelf, cache):
            return folder / _TREE
        fresh = folder.with_name(f".{folder.name}.{os.urandom(4).hex()}")
        shelf.discard_tree(*folder.parent.glob(f".{folder.name}.*"), folder)
        (fresh / _TREE).mkdir(mode=0o700, parents=True)
        try:
            for file in cache.tree.files:
                _share(file, _inside(fresh / _TREE, file), told)
            write_private(fresh / _STAMP, json.dumps(_stamp(fresh / _TREE, cache)).encode())
            fresh.rename(folder)
        except BaseException:
            shelf.discard_tree(fresh)
            raise
    return folder / _TREE


def clean(shelf: Shelf) -> list[Finding]:
    """Remove every cache that no run directory links to."""
    root = shelf.root / "caches"
    done = []
    for folder in sorted(root.glob("[!.]*")):
        with shelf.claim(f".cache.{folder.name}"):
            if _used(shelf, folder):
                continue
            try:
                folder.rename(gone := folder.with_name(f".{folder.name}.{os.urandom(4).hex()}"))
            except OSError as error:
                hint = "remove it by hand"
                done.append(Finding("cache", False, f"{folder}: {error.strerror}", hint))
                continue
            shelf.discard_tree(gone)
        done.append(Finding("cache", True, f"{folder.name} is removed: no job needs it"))
    return done


def _used(shelf: Shelf, folder: Path) -> bool:
    """Whether a run directory links to the cache, or may be about to."""
    for record in shelf.records():
        if record.stage is Stage.LAYING:
            return True
        for at, folders, _ in os.walk(shelf.home(record.job)):
            links = (Path(at) / name for name in folders)
            if any(link.is_symlink() and link.readlink() == folder / _TREE for link in links):
                return True
    return False


def linkable(home: Path, cache: Cache) -> bool:
    """Whether the cache costs no room: its files are on the disk the jobs are on."""
    device = home.stat().st_dev
    try:
        return all(file.here.stat().st_dev == device for file in cache.tree.files)
    except OSError:
        return False


def _folder(shelf: Shelf, cache: Cache) -> Path:
    plain = _PLAIN_KEY.fullmatch(cache.key)
    key = cache.key if plain else hashlib.sha256(cache.key.encode()).hexdigest()
    return shelf.root / "caches" / key


def _inside(tree: Path, file: LocalFile) -> Path:
    if file.at.is_absolute() or not file.at.parts or ".." in file.at.parts:
        raise Refused(f"{str(file.at)!r} is no place for a file in a cache")
    target = tree / file.at
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return target


def _share(file: LocalFile, target: Path, told: Callable[[int], None]) -> None:
    with copying.open_checked(file) as source, copying.create(target, like=source) as out:
        if copying.clone(source, out):
            copying.require_content(file, copying.digest_of(target, told))
            return
    target.unlink()
    try:
        # link() on Linux does not follow a link, and a hub's cache is made of them.
        os.link(os.path.realpath(file.here), target)
    except OSError:
        copying.copy_checked(file, target, told)
        return
    copying.require_content(file, copying.digest_of(target, told))


def _stamp(tree: Path, cache: Cache) -> list[list[str | int]]:
    seen = [(str(file.at), (tree / file.at).stat()) for file in cache.tree.files]
    return [[at, status.st_size, status.st_mtime_ns] for at, status in seen]
