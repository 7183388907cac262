"""The journal as a whole: its parts, and how it is opened."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from backends.errors import Refused
from launcher.store.events import Events
from launcher.store.jobs import Jobs
from launcher.store.journal import connect
from launcher.store.measurements import Measurements
from launcher.store.runs import Runs
from launcher.store.uplinks import Uplinks


class Store(Runs, Jobs, Events, Uplinks, Measurements):
    """The journal. Every method is one transaction."""


def open_store(state_dir: Path) -> Store:
    """The store of this state directory, made and brought up to date when needed."""
    path = state_dir / "ftlaunch.db"
    try:
        return Store(connect(path))
    except (OSError, sqlite3.Error) as error:
        raise Refused(
            f"the store {path} cannot be opened: {error}",
            hint="set FTLAUNCH_STATE_DIR to a folder you may write to",
        ) from error
