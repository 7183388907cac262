"""Reading and writing the journal."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from backends.errors import BadInput, Refused
from backends.job import Files
from backends.lease import Lease, Phase
from backends.offer import Money
from launcher.store import records
from launcher.store.records import Event, JobRecord, RunRecord
from launcher.store.schema import migrate

_RUN = "id, name, recipe, backend, output_dir, created_at, ended_at, phase"
_JOB = (
    "id, run_id, kind, name, spec, offer, phase, reason, exit_code, created_at, intent_at, "
    "launched_at, ended_at, pulled_at, closed_at, lease, files, cost"
)


def open_store(state_dir: Path) -> Store:
    """The store of this state directory, made and brought up to date when needed."""
    path = state_dir / "ftlaunch.db"
    try:
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600)
        db = sqlite3.connect(path, timeout=30, isolation_level=None)
        _use_wal(db)
        db.execute("PRAGMA foreign_keys = ON")
        migrate(db, str(path))
    except (OSError, sqlite3.Error) as error:
        raise Refused(
            f"the store {path} cannot be opened: {error}",
            hint="set FTLAUNCH_STATE_DIR to a folder you may write to",
        ) from error
    return Store(db)


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


class Store:
    """The journal. Every method is one transaction."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

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

    # ── runs ──────────────────────────────────────────────────────────────────────────────────

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
                    (run_id, name, recipe, backend, str(output_dir), _now(), Phase.QUEUED, spec),
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
                (phase, _now() if phase.ended else None, run_id),
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

    # ── jobs ──────────────────────────────────────────────────────────────────────────────────

    def add_job(self, *, run_id: str, kind: str, name: str, spec: str, offer: str) -> JobRecord:
        """Record a job that is going to be launched."""
        with self._writing() as db:
            cursor = db.execute(
                "INSERT INTO jobs (run_id, kind, name, spec, offer, phase, created_at) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                (run_id, kind, name, spec, offer, Phase.QUEUED, _now()),
            )
            job_id = cursor.lastrowid
        if job_id is None:  # cannot be after an INSERT; said for the type checker
            raise AssertionError
        return self.job(job_id)

    def job(self, job_id: int) -> JobRecord:
        """One job."""
        row = self._db.execute(
            f"SELECT {_JOB} FROM jobs WHERE id = ?",  # noqa: S608 - our own columns
            (job_id,),
        ).fetchone()
        if row is None:
            raise BadInput(f"there is no job {job_id}")
        return _job(row)

    def jobs(self, run_id: str) -> Sequence[JobRecord]:
        """A run's jobs, in the order they were added."""
        rows = self._db.execute(
            f"SELECT {_JOB} FROM jobs WHERE run_id = ? ORDER BY id",  # noqa: S608
            (run_id,),
        )
        return [_job(row) for row in rows]

    def mark_intent(self, job_id: int) -> bool:
        """Say that the provider is about to be asked: from now on something may exist there.

        False, and nothing is written, when the job was ended meanwhile: then it is not asked.
        """
        with self._writing() as db:
            cursor = db.execute(
                "UPDATE jobs SET intent_at = ?, phase = ? WHERE id = ? AND ended_at IS NULL",
                (_now(), Phase.STARTING, job_id),
            )
        return cursor.rowcount == 1

    def save_lease(self, job_id: int, lease: Lease) -> None:
        """Record the lease the moment it has an id."""
        self._set(
            job_id,
            lease=records.lease_to_json(lease),
            files=records.files_to_json(lease.files),
        )

    def mark_launched(self, job_id: int) -> None:
        """The job goes on by itself from here."""
        self._set(job_id, launched_at=_now())
        self.set_phase(job_id, Phase.RUNNING)

    def set_phase(self, job_id: int, phase: Phase, reason: str = "") -> None:
        """Record how a living job stands; a verdict is not touched."""
        with self._writing() as db:
            db.execute(
                "UPDATE jobs SET phase = ?, reason = ? WHERE id = ? AND ended_at IS NULL",
                (phase, reason, job_id),
            )

    def mark_not_begun(self, job_id: int, reason: str) -> bool:
        """End a job that nobody has begun to launch; False when somebody has."""
        with self._writing() as db:
            cursor = db.execute(
                "UPDATE jobs SET phase = ?, reason = ?, ended_at = ? "
                "WHERE id = ? AND ended_at IS NULL AND intent_at IS NULL",
                (Phase.STOPPED, reason, _now(), job_id),
            )
        return cursor.rowcount == 1

    def mark_ended(
        self,
        job_id: int,
        phase: Phase,
        *,
        exit_code: int | None,
        reason: str,
        cost: Money | None,
        ended_at: datetime | None = None,
    ) -> None:
        """Record the verdict; a verdict once recorded stays. `ended_at` is now when not known."""
        with self._writing() as db:
            db.execute(
                "UPDATE jobs SET phase = ?, exit_code = ?, reason = ?, cost = ?, ended_at = ? "
                "WHERE id = ? AND ended_at IS NULL",
                (
                    phase,
                    exit_code,
                    reason,
                    None if cost is None else records.money_to_text(cost),
                    _now() if ended_at is None else ended_at.isoformat(timespec="milliseconds"),
                    job_id,
                ),
            )

    def mark_pulled(self, job_id: int) -> None:
        """The job's results are here and verified."""
        self._set(job_id, pulled_at=_now())

    def mark_closed(self, job_id: int, files: Files | None) -> None:
        """The lease is gone, confirmed; `files` is what was kept."""
        self._set(
            job_id,
            closed_at=_now(),
            lease=None,
            files=None if files is None else records.files_to_json(files),
        )

    def _set(self, job_id: int, **columns: Any) -> None:
        names = ", ".join(f"{name} = ?" for name in columns)
        with self._writing() as db:
            db.execute(
                f"UPDATE jobs SET {names} WHERE id = ?",  # noqa: S608 - our own columns
                (*columns.values(), job_id),
            )

    # ── events ────────────────────────────────────────────────────────────────────────────────

    def say(
        self,
        run_id: str,
        kind: str,
        text: str,
        *,
        job_id: int | None = None,
        data: Mapping[str, Any] | None = None,
    ) -> None:
        """Tell whoever follows."""
        with self._writing() as db:
            db.execute(
                "INSERT INTO events (run_id, job_id, at, kind, text, data) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (run_id, job_id, _now(), kind, _plain(text), json.dumps(dict(data or {}))),
            )

    def events(self, run_id: str, *, after: int = 0) -> Sequence[Event]:
        """What was said about a run since the event `after`."""
        rows = self._db.execute(
            "SELECT id, job_id, at, kind, text, data FROM events "
            "WHERE run_id = ? AND id > ? ORDER BY id",
            (run_id, after),
        )
        return [
            Event(row[0], row[1], _time(row[2]), row[3], row[4], json.loads(row[5])) for row in rows
        ]


def _plain(text: str) -> str:
    """Text that SQLite takes: a file name may hold bytes that are no UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _maybe_time(text: str | None) -> datetime | None:
    return None if text is None else _time(text)


def _run(row: Sequence[Any]) -> RunRecord:
    return RunRecord(
        id=row[0],
        name=row[1],
        recipe=row[2],
        backend=row[3],
        output_dir=Path(row[4]),
        created_at=_time(row[5]),
        ended_at=_maybe_time(row[6]),
        phase=Phase(row[7]),
    )


def _job(row: Sequence[Any]) -> JobRecord:
    lease, files, cost = row[15], row[16], row[17]
    return JobRecord(
        id=row[0],
        run_id=row[1],
        kind=row[2],
        name=row[3],
        spec=row[4],
        offer=row[5],
        phase=Phase(row[6]),
        reason=row[7],
        exit_code=row[8],
        created_at=_time(row[9]),
        intent_at=_maybe_time(row[10]),
        launched_at=_maybe_time(row[11]),
        ended_at=_maybe_time(row[12]),
        pulled_at=_maybe_time(row[13]),
        closed_at=_maybe_time(row[14]),
        lease=None if lease is None else records.lease_from_json(lease),
        files=None if files is None else records.files_from_json(files),
        cost=None if cost is None else records.money_from_text(cost),
    )
