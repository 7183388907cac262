"""The store's tables, as the list of migrations that made them.

A migration once released is never edited: a change is a new one at the end of the list. The number
of migrations that a file has seen is its `user_version`.
"""

from __future__ import annotations

import sqlite3

from backends.errors import Refused

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE runs (
        id          TEXT PRIMARY KEY,
        name        TEXT NOT NULL UNIQUE,
        recipe      TEXT NOT NULL,
        backend     TEXT NOT NULL,
        output_dir  TEXT NOT NULL,
        created_at  TEXT NOT NULL,
        ended_at    TEXT,
        phase       TEXT NOT NULL,
        spec        TEXT NOT NULL
    ) STRICT;
    CREATE INDEX runs_by_age ON runs (created_at DESC);

    CREATE TABLE jobs (
        id          INTEGER PRIMARY KEY,
        run_id      TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
        kind        TEXT NOT NULL,
        name        TEXT NOT NULL UNIQUE,
        spec        TEXT NOT NULL,
        offer       TEXT NOT NULL,
        phase       TEXT NOT NULL,
        reason      TEXT NOT NULL DEFAULT '',
        exit_code   INTEGER,
        created_at  TEXT NOT NULL,
        intent_at   TEXT,
        launched_at TEXT,
        ended_at    TEXT,
        pulled_at   TEXT,
        closed_at   TEXT,
        lease       TEXT,
        files       TEXT,
        cost        TEXT
    ) STRICT;
    CREATE INDEX jobs_of_run ON jobs (run_id, id);
    CREATE INDEX jobs_open ON jobs (run_id) WHERE closed_at IS NULL;

    CREATE TABLE events (
        id     INTEGER PRIMARY KEY,
        run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
        job_id INTEGER,
        at     TEXT NOT NULL,
        kind   TEXT NOT NULL,
        text   TEXT NOT NULL,
        data   TEXT NOT NULL DEFAULT '{}'
    ) STRICT;
    CREATE INDEX events_of_run ON events (run_id, id);
    """,
    """
    ALTER TABLE jobs ADD COLUMN backend TEXT NOT NULL DEFAULT 'local';
    ALTER TABLE jobs ADD COLUMN held_at TEXT;
    ALTER TABLE jobs ADD COLUMN stop_at TEXT;
    UPDATE jobs SET backend = (SELECT backend FROM runs WHERE runs.id = jobs.run_id);
    CREATE TABLE uplinks (
        backend     TEXT PRIMARY KEY,
        bytes       INTEGER NOT NULL,
        seconds     REAL NOT NULL,
        measured_at TEXT NOT NULL
    ) STRICT;
    """,
    """
    ALTER TABLE jobs ADD COLUMN stop_grace_s REAL;
    CREATE INDEX jobs_kept ON jobs (id)
        WHERE closed_at IS NOT NULL AND files IS NOT NULL AND backend <> 'local';
    """,
    """
    CREATE TABLE measurements (
        job      TEXT PRIMARY KEY,
        at       TEXT NOT NULL,
        backend  TEXT NOT NULL,
        gpu      TEXT,
        count    INTEGER NOT NULL,
        method   TEXT NOT NULL,
        step_s   REAL,
        peak_gib REAL,
        seconds  TEXT NOT NULL,
        workload TEXT NOT NULL
    ) STRICT;
    """,
)


def migrate(db: sqlite3.Connection, where: str) -> None:
    """Bring the file up to date, one process at a time, each migration whole or not at all.

    Raises Refused when a newer ftlaunch wrote the file: reading it could lose what that one knows.
    """
    if _version(db) == len(MIGRATIONS):
        return
    db.execute("BEGIN IMMEDIATE")
    try:
        for script in MIGRATIONS[_known_version(db, where) :]:
            for statement in _statements(script):
                db.execute(statement)
        db.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        db.execute("COMMIT")
    except BaseException:
        db.execute("ROLLBACK")
        raise


def _known_version(db: sqlite3.Connection, where: str) -> int:
    version = _version(db)
    if version > len(MIGRATIONS):
        raise Refused(
            f"the store {where} was written by a newer ftlaunch (format {version})",
            hint="upgrade with: pip install --upgrade ftlaunch",
        )
    return version


def _version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def _statements(script: str) -> list[str]:
    """The script's statements; `executescript` would commit the transaction we are in."""
    return [statement for part in script.split(";") if (statement := part.strip())]
