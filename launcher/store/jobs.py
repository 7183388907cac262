"""The journal's jobs: each step of each is written before and after it is taken."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from backends.errors import BadInput
from backends.job import Files
from backends.lease import Lease, Phase
from backends.offer import Money
from launcher.store import records
from launcher.store.journal import Journal, maybe_time, now, stored, time_of
from launcher.store.records import JobRecord

_JOB = (
    "id, run_id, kind, name, spec, offer, phase, reason, exit_code, created_at, intent_at, "
    "launched_at, ended_at, pulled_at, closed_at, lease, files, cost, backend, held_at, stop_at, "
    "stop_grace_s"
)


class Jobs(Journal):
    """One job is one lease, from start to end. Every method is one transaction."""

    def add_job(
        self,
        *,
        run_id: str,
        kind: str,
        name: str,
        spec: str,
        offer: str,
        backend: str | None = None,
    ) -> JobRecord:
        """Record a job that is going to be launched; on the run's backend unless another is named.

        Raises BadInput when there is no such run.
        """
        with self._writing() as db:
            row = db.execute("SELECT backend FROM runs WHERE id = ?", (run_id,)).fetchone()
            if row is None:
                raise BadInput(f"there is no run {run_id}")
            cursor = db.execute(
                "INSERT INTO jobs (run_id, kind, name, spec, offer, phase, created_at, backend) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (run_id, kind, name, spec, offer, Phase.QUEUED, now(), backend or row[0]),
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

    def remove_unbegun(self, run_id: str) -> None:
        """Forget the run's jobs that no provider was ever asked for."""
        with self._writing() as db:
            db.execute(
                "DELETE FROM jobs WHERE run_id = ? AND intent_at IS NULL AND ended_at IS NULL",
                (run_id,),
            )

    def mark_intent(self, job_id: int) -> bool:
        """Say that the provider is about to be asked: from now on something may exist there.

        False, and nothing is written, when the job was ended meanwhile: then it is not asked.
        """
        with self._writing() as db:
            cursor = db.execute(
                "UPDATE jobs SET intent_at = ?, phase = ? WHERE id = ? AND ended_at IS NULL",
                (now(), Phase.STARTING, job_id),
            )
        return cursor.rowcount == 1

    def save_lease(self, job_id: int, lease: Lease) -> None:
        """Record the lease the moment it has an id."""
        self._set(
            job_id,
            lease=records.lease_to_json(lease),
            files=records.files_to_json(lease.files),
        )

    def mark_launched(self, job_id: int, *, launched_at: datetime | None = None) -> None:
        """The job goes on by itself from here, or has done so since `launched_at`."""
        self._set(job_id, launched_at=now() if launched_at is None else stored(launched_at))
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
                (Phase.STOPPED, reason, now(), job_id),
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
                    now() if ended_at is None else stored(ended_at),
                    job_id,
                ),
            )

    def mark_pulled(self, job_id: int) -> None:
        """The job's results are here and verified."""
        self._set(job_id, pulled_at=now())

    def mark_held(self, job_id: int) -> bool:
        """It is over, and what it ran on is kept as it is: it may bill until somebody stops it.

        False, and nothing is written, when its end was asked for meanwhile.
        """
        with self._writing() as db:
            cursor = db.execute(
                "UPDATE jobs SET held_at = ? WHERE id = ? AND stop_at IS NULL", (now(), job_id)
            )
        return cursor.rowcount == 1

    def ask_stop(self, job_id: int, grace: timedelta) -> None:
        """Somebody wants its end within `grace`; of a held job it is to be let go of now."""
        self._set(job_id, stop_at=now(), stop_grace_s=grace.total_seconds(), held_at=None)

    def set_files(self, job_id: int, files: Files | None) -> None:
        """What the backend still holds of a closed job."""
        self._set(job_id, files=None if files is None else records.files_to_json(files))

    def kept_jobs(self) -> Sequence[JobRecord]:
        """Jobs that were let go of, whose files are still at a provider, the oldest first."""
        rows = self._db.execute(
            f"SELECT {_JOB} FROM jobs "  # noqa: S608 - our own columns
            "WHERE closed_at IS NOT NULL AND files IS NOT NULL AND backend <> 'local' ORDER BY id"
        )
        return [_job(row) for row in rows]

    def job_names(self) -> set[str]:
        """The names of all jobs there are, of all runs: the tags they have at their providers."""
        return {str(row[0]) for row in self._db.execute("SELECT name FROM jobs")}

    def closed_job_names(self) -> set[str]:
        """The names of the jobs that were let go of, confirmed."""
        rows = self._db.execute("SELECT name FROM jobs WHERE closed_at IS NOT NULL")
        return {str(row[0]) for row in rows}

    def mark_closed(self, job_id: int, files: Files | None) -> None:
        """The lease is gone, confirmed; `files` is what was kept."""
        self._set(
            job_id,
            closed_at=now(),
            held_at=None,
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
        created_at=time_of(row[9]),
        intent_at=maybe_time(row[10]),
        launched_at=maybe_time(row[11]),
        ended_at=maybe_time(row[12]),
        pulled_at=maybe_time(row[13]),
        closed_at=maybe_time(row[14]),
        lease=None if lease is None else records.lease_from_json(lease),
        files=None if files is None else records.files_from_json(files),
        cost=None if cost is None else records.money_from_text(cost),
        backend=row[18],
        held_at=maybe_time(row[19]),
        stop_at=maybe_time(row[20]),
        stop_grace=None if row[21] is None else timedelta(seconds=row[21]),
    )
