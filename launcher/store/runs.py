"""The journal's runs."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from backends.errors import BadInput
from backends.lease import Phase
from launcher.store.journal import Journal, maybe_time, now, time_of
from launcher.store.records import RunRecord

_RUN = "id, name, recipe, backend, output_dir, created_at, ended_at, phase"


class Runs(Journal):
    """What the user named. Every method is one transaction."""

    def add_run(
        self,
        *,
        run_id: str,
        name: str,
        recipe: str,
        backend: str,
        output_dir: Path,
        spec: str,
    ) -> RunRecord:
        """Record a new run. Raises BadInput when the name is taken."""
        try:
            with self._writing() as db:
                db.execute(
                    "INSERT INTO runs (id, name, recipe, backend, output_dir, created_at, phase, "
                    "spec) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (run_id, name, recipe, backend, str(output_dir), now(), Phase.QUEUED, spec),
                )
        except sqlite3.IntegrityError:
            raise BadInput(
                f"there is a run named {name!r} already",
                hint=f"choose another with -n, or remove it with: ftlaunch rm {name}",
            ) from None
        return self.run(name)

    def run(self, name: str) -> RunRecord:
        """The run of this name or id. Raises BadInput when there is none."""
        row = self._db.execute(
            f"SELECT {_RUN} FROM runs WHERE name = ? OR id = ?",  # noqa: S608 - our own columns
            (name, name),
        ).fetchone()
        if row is None:
            raise BadInput(f"there is no run named {name!r}", hint="list them with: ftlaunch ps -a")
        return _run(row)

    def names(self) -> list[str]:
        """The names of all runs, the youngest first."""
        rows = self._db.execute("SELECT name FROM runs ORDER BY created_at DESC").fetchall()
        return [str(row[0]) for row in rows]

    def has_name(self, name: str) -> bool:
        """Whether a run has this name."""
        return bool(self._db.execute("SELECT 1 FROM runs WHERE name = ?", (name,)).fetchone())

    def last_run(self) -> RunRecord:
        """The youngest run. Raises BadInput when there is none."""
        runs = self.runs(limit=1)
        if not runs:
            raise BadInput("there is no run yet", hint="start one with: ftlaunch train quickstart")
        return runs[0]

    def runs(self, *, alive: bool = False, limit: int = -1, offset: int = 0) -> Sequence[RunRecord]:
        """Runs, the youngest first; with `alive`, those with a job that is not closed."""
        where = "WHERE id IN (SELECT run_id FROM jobs WHERE closed_at IS NULL)" if alive else ""
        rows = self._db.execute(
            f"SELECT {_RUN} FROM runs {where} "  # noqa: S608 - our own columns
            "ORDER BY created_at DESC, id DESC LIMIT ? OFFSET ?",
            (limit, offset),
        )
        return [_run(row) for row in rows]

    def count_runs(self) -> int:
        """How many runs there are."""
        return int(self._db.execute("SELECT count(*) FROM runs").fetchone()[0])

    def run_spec(self, run_id: str) -> str:
        """The run's specification, as stored."""
        row = self._db.execute("SELECT spec FROM runs WHERE id = ?", (run_id,)).fetchone()
        return str(row[0])

    def set_run(self, run_id: str, phase: Phase) -> None:
        """Record how the run stands; an end is dated."""
        with self._writing() as db:
            db.execute(
                "UPDATE runs SET phase = ?, ended_at = ? WHERE id = ?",
                (phase, now() if phase.ended else None, run_id),
            )

    def move_run(self, run_id: str, *, backend: str, spec: str) -> None:
        """The run is on another backend from now on, with its recipe as it is there."""
        with self._writing() as db:
            db.execute(
                "UPDATE runs SET backend = ?, spec = ? WHERE id = ?", (backend, spec, run_id)
            )

    def remove_run(self, run_id: str) -> None:
        """Forget a run and all it had. Raises BadInput while a job of it is open."""
        with self._writing() as db:
            db.execute(
                "DELETE FROM runs WHERE id = ? AND NOT EXISTS "
                "(SELECT 1 FROM jobs WHERE run_id = ? AND closed_at IS NULL)",
                (run_id, run_id),
            )
            if db.execute("SELECT 1 FROM runs WHERE id = ?", (run_id,)).fetchone():
                raise BadInput("the run has begun another job", hint="end it with: ftlaunch stop")


def _run(row: Sequence[Any]) -> RunRecord:
    return RunRecord(
        id=row[0],
        name=row[1],
        recipe=row[2],
        backend=row[3],
        output_dir=Path(row[4]),
        created_at=time_of(row[5]),
        ended_at=maybe_time(row[6]),
        phase=Phase(row[7]),
    )
