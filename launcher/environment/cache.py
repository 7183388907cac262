"""Where what is made once is kept, and how one process at a time makes it."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs

from backends.errors import Refused
from backends.protocol import Progress

VARIABLE = "FTLAUNCH_CACHE_DIR"


def cache_dir() -> Path:
    """The user's cache folder for `ftlaunch`, absolute; FTLAUNCH_CACHE_DIR names another."""
    chosen = os.environ.get(VARIABLE)
    path = Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("ftlaunch")
    return path.absolute()


def made(folder: Path) -> Path:
    """`folder`, made if it was not there; raises Refused where it cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Refused(
            f"the cache folder {str(folder)!r} cannot be made: {error.strerror}",
            hint=f"set {VARIABLE} to a folder you can write to",
        ) from error
    return folder


@contextmanager
def alone(lock: Path, *, waiting: str, progress: Progress) -> Iterator[int]:
    """Hold `lock` against every other process, and yield its descriptor.

    Hand the descriptor to the child processes that do the work (`pass_fds`): the lock is theirs
    too, so that if this process is killed nobody begins anew while they still write. It is let go
    by closing, never by unlocking, and the lock file stays: removing it would let two processes
    hold two files of one name.
    """
    try:
        held = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise Refused(
            f"the lock file {str(lock)!r} cannot be opened: {error.strerror}",
            hint=f"set {VARIABLE} to a folder you can write to",
        ) from error
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress(waiting)
            fcntl.flock(held, fcntl.LOCK_EX)
        yield held
    finally:
        os.close(held)


def need_room(folder: Path, needed_bytes: int, *, what: str) -> None:
    """Raise Refused when the disk that holds `folder` has less than `needed_bytes` free."""
    free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        raise Refused(
            f"{what} needs {needed_bytes / 1e9:.1f} GB of disk, and {str(folder)!r} "
            f"has {free / 1e9:.1f} GB free",
            hint=f"make room, or set {VARIABLE} to a folder on a larger disk",
        )
