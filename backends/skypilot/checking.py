"""`ftlaunch check`: can SkyPilot be used, what of ours is there, and cleaning up."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Iterator
from pathlib import Path

from backends.errors import CredentialsMissing, FtlaunchError, Unreachable
from backends.lease import Finding
from backends.skypilot.records import Held, Records, Stage
from backends.skypilot.server import Server


def check(server: Server, records: Records) -> list[Finding]:
    """See `Backend.check`. Starts no server."""
    return [*_state(records.root), *_server(server)]


def _state(root: Path) -> Iterator[Finding]:
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=root):
            pass
    except OSError as error:
        hint = "make it a folder you can write to, or set FTLAUNCH_STATE_DIR to another"
        yield Finding("state folder", False, f"{root}: {error.strerror}", hint)
        return
    yield Finding("state folder", True, str(root))


def _server(server: Server) -> Iterator[Finding]:
    if importlib.util.find_spec("sky") is None:
        hint = "install it with: pip install ftlaunch[skypilot]"
        yield Finding("SkyPilot", False, "it is not installed", hint, unset=True)
        return
    try:
        server.require_answer()
        rows, clouds = server.clusters(), server.enabled_clouds()
    except (CredentialsMissing, Unreachable) as error:
        yield Finding("API server", False, error.message, error.hint, unset=True)
        return
    except FtlaunchError as error:
        yield Finding("API server", False, error.message, error.hint or "try again later")
        return
    yield Finding("API server", True, f"{server.url()} answers")
    if clouds:
        yield Finding("clouds", True, ", ".join(clouds))
    else:
        # What was enabled once may still have clusters: then it is trouble.
        hint = "enable one with: sky check"
        yield Finding("clouds", False, "SkyPilot has no cloud enabled", hint, unset=not rows)
    said = ", ".join(f"{row.name} ({row.status})" for row in rows) or "none"
    yield Finding("clusters of ftlaunch", True, said)


def clean(records: Records) -> list[Finding]:
    """See `Backend.clean`: what no job needs is an old note; what is kept stays."""
    found = []
    for cluster in records.all():
        over = cluster.held is Held.GONE or not cluster.ours
        notes = cluster.jobs.values()
        wanted = any(note.kept or note.stage is not Stage.RELEASED for note in notes)
        if over and not wanted and not records.claimed(cluster.name):
            records.forget(cluster.name)
            found.append(Finding("note", True, f"what was known of {cluster.name} is removed"))
    return found
