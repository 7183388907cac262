"""What is told about a run, for whoever follows it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from launcher.store.journal import Journal, now, time_of
from launcher.store.records import Event


class Events(Journal):
    """Told once, in order. Every method is one transaction."""

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
                (run_id, job_id, now(), kind, _plain(text), json.dumps(dict(data or {}))),
            )

    def events(self, run_id: str, *, after: int = 0) -> Sequence[Event]:
        """What was said about a run since the event `after`."""
        rows = self._db.execute(
            "SELECT id, job_id, at, kind, text, data FROM events "
            "WHERE run_id = ? AND id > ? ORDER BY id",
            (run_id, after),
        )
        return [
            Event(row[0], row[1], time_of(row[2]), row[3], row[4], json.loads(row[5]))
            for row in rows
        ]


def _plain(text: str) -> str:
    """Text that SQLite takes: a file name may hold bytes that are no UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode()
