"""How fast this machine has sent files to each backend, as it was really seen."""

from __future__ import annotations

from launcher.store.journal import Journal, now, time_of
from launcher.store.records import Uplink


class Uplinks(Journal):
    """The last measurement of each backend. Every method is one transaction."""

    def save_uplink(self, backend: str, *, sent_bytes: int, seconds: float) -> None:
        """Record that so many bytes took so long; it takes the place of what was known."""
        with self._writing() as db:
            db.execute(
                "INSERT OR REPLACE INTO uplinks (backend, bytes, seconds, measured_at) "
                "VALUES (?, ?, ?, ?)",
                (backend, sent_bytes, seconds, now()),
            )

    def uplink(self, backend: str) -> Uplink | None:
        """What is known of the way to a backend; None when nothing was ever sent there."""
        row = self._db.execute(
            "SELECT bytes, seconds, measured_at FROM uplinks WHERE backend = ?", (backend,)
        ).fetchone()
        if row is None:
            return None
        return Uplink(bytes_per_second=row[0] / row[1], measured_at=time_of(row[2]))
