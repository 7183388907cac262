"""The file itself: opened by many processes at once, written in whole transactions."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from launcher.store.schema import migrate


def connect(path: Path) -> sqlite3.Connection:
    """The file at `path`, made and brought up to date when needed.

    Raises OSError and sqlite3.Error; Refused for a file that a newer ftlaunch wrote.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.touch(mode=0o600)
    db = sqlite3.connect(path, timeout=30, isolation_level=None)
    _use_wal(db)
    db.execute("PRAGMA foreign_keys = ON")
    migrate(db, str(path))
    return db


def _use_wal(db: sqlite3.Connection) -> None:
    """Switch to the write-ahead log; SQLite does not wait for a lock here, so we do."""
    for patience in (0.05,) * 100:
        try:
            db.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                raise
            time.sleep(patience)
        else:
            return
    db.execute("PRAGMA journal_mode = WAL")


class Journal:
    """What every part of the store stands on."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    @property
    def folder(self) -> Path:
        """Where the file is: another thread opens it anew."""
        (_, _, path) = self._db.execute("PRAGMA database_list").fetchone()
        return Path(path).parent

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is written inside is written whole or not at all."""
        with self._writing():
            yield

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        if self._busy():  # inside `together`
            yield self._db
            return
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield self._db
            self._db.execute("COMMIT")
        except BaseException:
            if self._busy():  # on a full disk SQLite has rolled back by itself
                self._db.execute("ROLLBACK")
            raise

    def _busy(self) -> bool:
        return self._db.in_transaction


def now() -> str:
    """The time as it is stored."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def stored(when: datetime) -> str:
    """A time as it is stored."""
    return when.isoformat(timespec="milliseconds")


def time_of(text: str) -> datetime:
    """The reverse of `now`."""
    return datetime.fromisoformat(text)


def maybe_time(text: str | None) -> datetime | None:
    """The same, for what may not have happened."""
    return None if text is None else time_of(text)
