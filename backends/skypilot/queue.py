"""SkyPilot's managed jobs: its queue, in our words.

A managed job has a cluster of its own, which SkyPilot makes, takes down with the job's end, and
makes again when it is taken away meanwhile.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from backends.errors import Unreachable
from backends.skypilot.errors import translated
from backends.skypilot.server import PREFIX, Server
from backends.skypilot.shipping import said

_OVER = frozenset({"SUCCEEDED", "CANCELLED"})


@dataclass(frozen=True)
class Managed:
    """A managed job as the server lists it.

    status      SkyPilot's own word: PENDING, STARTING, RUNNING, RECOVERING, SUCCEEDED, FAILED, …
    at_work     somebody still minds it: until then its cluster may be there, whatever the status
    recoveries  how often its cluster was taken away
    store       the address of the bucket where it is kept, by the script that the server has of it
    seconds     that it has run, without the time that a cluster was waited for
    """

    number: int
    name: str
    status: str
    at_work: bool
    region: str
    recoveries: int
    seconds: float
    submitted_at: float
    why: str
    cloud: str = ""
    store: str = ""

    @property
    def over(self) -> bool:
        """It has ended, one way or the other, and its cluster is gone."""
        return (self.status in _OVER or self.status.startswith("FAILED")) and not self.at_work


class Queue:
    """The managed jobs of one server that are ours."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def jobs(self, name: str | None = None, *, over: bool = False) -> list[Managed]:
        """Ours, or those of that name, whoever launched them, the youngest first.

        over  those that have ended, too
        Raises Unreachable when the server, or the controller of its jobs, does not answer.
        """
        self._server.require_answer()
        sky = self._server.sdk
        with translated():
            import sky.jobs

            asked = sky.jobs.queue_v2(
                refresh=False,
                skip_finished=not over,
                all_users=True,
                fields=None,
                name_match=name or PREFIX,
            )
            found, *_ = sky.get(asked)
        rows = [_row(one) for one in found]
        mine = [row for row in rows if (row.name == name if name else row.name.startswith(PREFIX))]
        return sorted(mine, key=lambda row: -row.number)

    def alive(self) -> list[Managed]:
        """Those that may bill. None where no controller of jobs is up: it ends after its last."""
        try:
            return [row for row in self.jobs() if not row.over]
        except Unreachable as error:
            if "not up" in error.message:
                return []
            raise

    def submit(self, task: Any, name: str) -> str:
        """Ask for a managed job; the request's id."""
        sky = self._server.sdk
        # It greets with a line for a person at its own command line.
        with translated(), contextlib.redirect_stdout(io.StringIO()):
            import sky.jobs

            return str(sky.jobs.launch(task, name=name, job_group=None))

    def cancel(self, number: int) -> None:
        """Ask for the end of a job; its cluster goes with it."""
        sky = self._server.sdk
        with translated():
            import sky.jobs

            sky.get(sky.jobs.cancel(job_ids=[number]))


def _row(record: Any) -> Managed:
    one: Mapping[str, Any] = record if isinstance(record, Mapping) else record.model_dump()
    status = one.get("status")
    return Managed(
        number=int(one["job_id"]),
        name=str(one.get("job_name") or ""),
        status=str(getattr(status, "value", status) or ""),
        at_work=str(one.get("schedule_state") or "DONE") != "DONE",
        # Before its first cluster it has none, which is told as a dash.
        region=str(one.get("region") or "").strip("-"),
        recoveries=int(one.get("recovery_count") or 0),
        seconds=float(one.get("job_duration") or 0),
        submitted_at=float(one.get("submitted_at") or 0),
        why=str(one.get("failure_reason") or ""),
        cloud=str(one.get("cloud") or "").strip("-"),
        store=said(str(one.get("user_yaml") or "")),
    )
