"""How long the commands take that people type all day."""

from __future__ import annotations

import os
import sqlite3
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import keep, ratio, seconds
from launcher.store import open_store

FTLAUNCH = str(Path(sys.executable).with_name("ftlaunch"))
PEER = [sys.executable, "-c", "import click"]
FINISHED = 10_000


def main() -> None:
    """Measure `--help` and `ps`."""
    figures = ratio(lambda: seconds([FTLAUNCH, "--help"]), lambda: seconds(PEER), runs=21)
    keep("ftlaunch --help", figures, limit=2.0, value=float(figures["ratio"]))
    with tempfile.TemporaryDirectory() as folder:
        fill(Path(folder))
        env = {**os.environ, "FTLAUNCH_STATE_DIR": folder}
        figures = ratio(lambda: seconds([FTLAUNCH, "ps"], env=env), lambda: seconds(PEER), runs=21)
        keep("ftlaunch ps, 10,000 runs", figures, limit=4.0, value=float(figures["ratio"]))


def fill(folder: Path) -> None:
    """A store of finished runs, two jobs each."""
    open_store(folder).close()
    db = sqlite3.connect(folder / "ftlaunch.db")
    at = "2026-01-01T00:00:00+00:00"
    with db:
        db.executemany(
            "INSERT INTO runs VALUES (?, ?, 'quickstart', 'local', '/o', ?, ?, 'succeeded', '{}')",
            [(f"id{n}", f"run-{n}", at, at) for n in range(FINISHED)],
        )
        db.executemany(
            "INSERT INTO jobs (run_id, kind, name, spec, offer, phase, created_at, ended_at, "
            "closed_at) VALUES (?, ?, ?, '{}', '{}', 'succeeded', ?, ?, ?)",
            [
                (f"id{n}", kind, f"ftl-{kind}-{n}", at, at, at)
                for n in range(FINISHED)
                for kind in ("train", "merge")
            ],
        )
    db.close()


if __name__ == "__main__":
    main()
