"""Following a run from any terminal: what is said about it, its log and its metrics, to the end.

A follower changes nothing. It may come and go; the conductor does the work.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from backends.errors import FtlaunchError
from backends.lease import Phase
from launcher.run import conductor, inventory
from launcher.run.loaded import Backends
from launcher.run.logs import Line, LogReader, lines_here
from launcher.run.spec import job_from_json, waits_for
from launcher.store import Event, JobRecord, RunRecord, Store

POLL_S = 0.3


@dataclass(frozen=True)
class Said:
    """Something for the follower's screen: exactly one of the three is there."""

    job: JobRecord | None
    event: Event | None = None
    line: Line | None = None
    metrics: dict[str, Any] | None = None


class Follower:
    """Yields what happens to a run until nothing of it is open.

    until  ends the following early, with everything left running (for `--detach`)
    whole  begin with the logs of jobs that have ended already
    """

    def __init__(
        self,
        store: Store,
        run: RunRecord,
        backends: Backends,
        *,
        after: int = 0,
        logs: bool = True,
        whole: bool = False,
        until: Callable[[Event], bool] | None = None,
    ) -> None:
        self._store = store
        self._run = run
        self._backends = backends
        self._after = after
        events = store.events(run.id, after=after)
        self._old = events[-1].id if whole and events else after
        self._logs = logs
        self._whole = whole
        self._until = until
        self._readers: dict[int, LogReader] = {}
        self._seen: dict[int, int] = {}

    def __iter__(self) -> Iterator[Said]:
        for things in self.rounds():
            yield from things

    def rounds(self) -> Iterator[list[Said]]:
        """What was new at each look, a few times a second; often nothing."""
        quiet = 0
        while True:
            open_jobs = [job for job in self._store.jobs(self._run.id) if job.open]
            things = list(self._round())
            yield things
            if not open_jobs or any(thing.event and self._ends(thing.event) for thing in things):
                return
            quiet = 0 if things else quiet + 1
            if quiet and quiet % 20 == 0:
                self._mind(open_jobs)
            time.sleep(POLL_S)

    def _ends(self, event: Event) -> bool:
        """Whether there is nothing more to follow: enough was seen, or a person is needed."""
        if event.data.get("fatal") and event.id > self._old:
            return True
        return self._until is not None and self._until(event)

    def _round(self) -> Iterator[Said]:
        # Logs before events: a job's last lines are told before its end is.
        events = self._store.events(self._run.id, after=self._after)
        if self._logs:
            for job in self._store.jobs(self._run.id):
                if self._wanted(job, events):
                    yield from self._log(job)
        for event in events:
            self._after = event.id
            told = None if event.job_id is None else self._store.job(event.job_id)
            yield Said(told, event=event)

    def _wanted(self, job: JobRecord, events: Sequence[Event]) -> bool:
        """A closed job's log is read to its end once: while its events arrive."""
        if job.open:
            return True
        if job.id in self._readers:
            return any(event.job_id == job.id for event in events)
        return self._whole or any(event.job_id == job.id for event in events)

    def _log(self, job: JobRecord) -> Iterator[Said]:
        if job.files is None:
            # Nothing is kept at the provider: what was not read in time was brought home.
            for line in lines_here(inventory.home(self._run, job), job.id):
                if line.seq > self._seen.get(job.id, -1):
                    self._seen[job.id] = line.seq
                    yield Said(job, line=line)
            return
        backend = self._backends.of(job)
        reader = self._readers.get(job.id)
        if reader is None:
            reader = self._readers[job.id] = LogReader(backend, job.files)
        state = inventory.state(backend, job.files)
        for line in reader.lines(state):
            self._seen[job.id] = max(line.seq, self._seen.get(job.id, -1))
            yield Said(job, line=line)
        for metrics in reader.metrics(state):
            yield Said(job, metrics=metrics)

    def _mind(self, open_jobs: list[JobRecord]) -> None:
        """A run whose conductor died gets a new one."""
        if open_jobs:
            conductor.start(self._run.id)


def verdict(store: Store, run: RunRecord, *, job_id: int | None = None) -> int:
    """The exit code that a run's end deserves, or one job's when `job_id` is given.

    What counts is the last training, what got it ready, and what came after it; an error that was
    mended since (a pull that failed and was done again) no longer does.
    """
    jobs = [job for job in store.jobs(run.id) if job_id is None or job.id == job_id]
    if job_id is None:
        jobs = [job for job in jobs if job.kind != "inference"]
        last = max(
            (job for job in jobs if job.kind == "train"), key=lambda job: job.id, default=None
        )
        first = 0 if last is None else min([last.id, *waits_for(job_from_json(last.spec))])
        jobs = [job for job in jobs if job.id >= first]
        # A merge that failed and was done again counts as it ended in the end.
        jobs = list({job.kind: job for job in jobs}.values())
    if not jobs:
        return FtlaunchError.exit_code
    errors = {
        event.job_id: event.data["exit_code"]
        for event in store.events(run.id)
        if event.kind == "error" and isinstance(event.data.get("exit_code"), int)
    }
    for job in jobs:
        if job.open:
            return int(errors.get(job.id, FtlaunchError.exit_code))
        if job.launched_at is None and job.id in errors:
            return int(errors[job.id])
        if code := EXIT_CODES.get(job.phase, FtlaunchError.exit_code):
            return code
        if job.pulled_at is None and job.id in errors:
            return int(errors[job.id])
    return 0


EXIT_CODES = {
    Phase.SUCCEEDED: 0,
    Phase.FAILED: 1,
    Phase.LOST: 6,
    Phase.EXPIRED: 7,
    Phase.STOPPED: 130,
}
"""What `wait` exits with."""
