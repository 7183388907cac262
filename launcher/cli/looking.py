"""Backends as `check` and `ps --adopt` meet them: ready, not set up, or in trouble."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from backends import registry
from backends.errors import FtlaunchError
from backends.lease import Finding
from launcher import places

if TYPE_CHECKING:
    from backends.protocol import Backend


def chosen(name: str | None) -> list[str]:
    """The backend that was named, or all there are."""
    return [name] if name else registry.names()


def load(name: str) -> Backend:
    """A backend by its name. Raises BadInput."""
    return registry.load(name, state_dir=places.backends_dir())


def look(name: str) -> list[Finding]:
    """What a backend says of itself. Raises BadInput for a name that nobody has."""
    try:
        return list(load(name).check())
    except FtlaunchError:
        raise
    except Exception as error:  # noqa: BLE001 - a stranger's backend may raise anything
        return [Finding(name, ok=False, detail=f"cannot be loaded: {error!r}", hint="reinstall it")]


def not_set_up(findings: Sequence[Finding]) -> bool:
    """Whether nothing is wrong but that nobody has set the backend up."""
    bad = [finding for finding in findings if not finding.ok]
    return bool(bad) and all(finding.unset for finding in bad)
