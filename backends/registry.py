"""Backends by name: ours and strangers' alike come from the entry-point group."""

from __future__ import annotations

import difflib
import os
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
    Raises BadInput for a name that nobody registered.
    """
    name, _, detail = spec.partition(":")
    found = _entries().get(name)
    if found is None:
        close = difflib.get_close_matches(name, names(), n=1)
        meant = f"did you mean {close[0]!r}? " if close else ""
        raise BadInput(
            f"there is no backend named {name!r}",
            hint=f"{meant}installed: {', '.join(names())}",
        )
    factory: Factory = found.load()
    return factory(Options(state_dir=state_dir / name, detail=detail, environ=dict(os.environ)))


def _entries() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}
