"""A launch that a crash cut short: found by its tag, done again when nothing came of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest
from toy_run import run_spec, toy

from backends import Backend, Files, Job, Lease, Observation, Offer, Phase, Unreachable, Unsure
from backends.protocol import Progress
from launcher.run.desk import Desk
from launcher.run.launching import launched
from launcher.run.loaded import Backends
from launcher.store import JobRecord


class HasOne:
    """A backend that knows one lease, in a phase."""

    name = "local"

    def __init__(self, job: str, phase: Phase) -> None:
        self.phase = phase
        self.launches = 0
        self.silent = False
        self.lease = Lease("local", "1", job, Files("local", "1"), datetime.now(UTC))

    def leases(self) -> Sequence[Lease]:
        if self.silent:
            raise Unreachable("no answer")
        return [self.lease]

    def observe(self, lease: Lease) -> Observation:
        return Observation(self.phase)

    def launch(
        self, job: Job, offer: Offer, *, on_lease: Callable[[Lease], None], progress: Progress
    ) -> Lease:
        self.launches += 1
        on_lease(self.lease)
        return self.lease


class Only(Backends):
    def __init__(self, backend: HasOne) -> None:
        super().__init__(Path("/nowhere"))
        self._only = cast("Backend", backend)

    def of(self, job: JobRecord) -> Backend:
        return self._only


@pytest.mark.parametrize(
    ("phase", "launches"),
    [(Phase.RUNNING, 0), (Phase.SUCCEEDED, 0), (Phase.UNKNOWN, 0), (Phase.LOST, 1)],
)
def test_what_a_crash_left(tmp_path: Path, phase: Phase, launches: int) -> None:
    with toy(tmp_path) as made:
        job = made.store.jobs(made.run.id)[0]
        made.store.mark_intent(job.id)
        backend = HasOne(job.name, phase)
        desk = Desk(made.store, made.run, Only(backend), run_spec())
        assert launched(desk, made.store.job(job.id)) == backend.lease
        assert backend.launches == launches
        assert made.store.job(job.id).launched_at is not None


def test_a_silent_provider_is_a_doubt_and_not_the_end_of_the_job(tmp_path: Path) -> None:
    with toy(tmp_path) as made:
        job = made.store.jobs(made.run.id)[0]
        made.store.mark_intent(job.id)
        backend = HasOne(job.name, Phase.RUNNING)
        backend.silent = True
        desk = Desk(made.store, made.run, Only(backend), run_spec())
        with pytest.raises(Unsure, match="does not say whether train runs"):
            launched(desk, made.store.job(job.id))
        assert made.store.job(job.id).open


def test_what_was_asked_to_stop_before_it_was_there_is_not_launched(tmp_path: Path) -> None:
    with toy(tmp_path, secrets=("NOBODY_HAS_IT",)) as made:
        job = made.store.jobs(made.run.id)[0]
        made.store.mark_intent(job.id)
        made.store.ask_stop(job.id)
        backend = HasOne("another", Phase.RUNNING)
        desk = Desk(made.store, made.run, Only(backend), run_spec())
        assert launched(desk, made.store.job(job.id)) is None
        assert backend.launches == 0
        assert made.store.job(job.id).phase is Phase.STOPPED


def test_what_is_asked_to_end_is_not_held(tmp_path: Path) -> None:
    with toy(tmp_path) as made:
        job = made.store.jobs(made.run.id)[0]
        made.store.ask_stop(job.id)
        assert not made.store.mark_held(job.id)
        assert made.store.job(job.id).open
