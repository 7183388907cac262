"""Where ftlaunch keeps things on this machine; each place can be moved by a variable."""

from __future__ import annotations

import os
from pathlib import Path

APP = "ftlaunch"


def state_dir() -> Path:
    """The store, the runs' own files and the backends' records (`FTLAUNCH_STATE_DIR`)."""
    if given := os.environ.get("FTLAUNCH_STATE_DIR"):
        return Path(given).absolute()
    from platformdirs import user_state_path

    return user_state_path(APP)


def backends_dir() -> Path:
    """What backends must remember."""
    return state_dir() / "backends"


def run_dir(run_id: str) -> Path:
    """One run's own files here: what was generated for it, and its conductor's lock and log."""
    return state_dir() / "runs" / run_id
