"""Backends by name: ours and strangers' alike come from the entry-point group."""

from __future__ import annotations

import difflib
import os
import sys
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from backends.errors import BadInput
from backends.protocol import Backend, Factory, Options

GROUP = "ftlaunch.backends"


def names() -> list[str]:
    """The names that `load` accepts, sorted."""
    return sorted(_entries())


def load(spec: str, *, state_dir: Path) -> Backend:
    """The backend for `NAME` or `NAME:DETAIL` (`skypilot:aws`).

    state_dir is the folder under which the backend gets one of its own.
    Raises BadInput for a name that nobody registered, that two distributions claim, or whose
    backend cannot be imported.
    """
    name, _, detail = spec.partition(":")
    factory = _factory(name)
    return factory(Options(state_dir=state_dir / name, detail=detail, environ=dict(os.environ)))


def _factory(name: str) -> Factory:
    entries = _entries().get(name)
    if not entries:
        close = difflib.get_close_matches(name, names(), n=1)
        meant = f"did you mean {close[0]!r}? " if close else ""
        raise BadInput(
            f"there is no backend named {name!r}",
            hint=f"{meant}installed: {', '.join(names())}",
        )
    if len(entries) > 1:
        claims = " and ".join(f"{_whose(entry)} ({value})" for value, entry in entries.items())
        raise BadInput(f"two distributions claim the name {name!r}: {claims}", hint="remove one")
    (entry,) = entries.values()
    try:
        factory: Factory = entry.load()
    except Exception as error:  # what a stranger's module does on import is anybody's guess
        raise BadInput(
            f"the backend {name!r} ({entry.value}) cannot be loaded: {error}",
            hint=f"install {_whose(entry)} again, or remove it",
        ) from error
    return factory


def _entries() -> dict[str, dict[str, EntryPoint]]:
    """By name, and by what they point to: one distribution may be seen twice on the path."""
    return _entries_on(tuple(sys.path))


@cache
def _entries_on(_path: tuple[str, ...]) -> dict[str, dict[str, EntryPoint]]:
    # All that is installed is gone through, which takes as long as to read a price list.
    found: dict[str, dict[str, EntryPoint]] = {}
    for entry in entry_points(group=GROUP):
        found.setdefault(entry.name, {}).setdefault(entry.value, entry)
    return found


def _whose(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else "its distribution"
