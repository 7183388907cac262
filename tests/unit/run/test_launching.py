"""A launch that a crash cut short: found by its tag, done again when nothing came of it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import pytest
from toy_run import job, run_spec, toy

from backends import (
    Backend,
    Files,
    Job,
    Lease,
    LocalTree,
    NotLaunched,
    Observation,
    Offer,
    Phase,
    Unreachable,
    Unsure,
)
from backends.lease import Signal
from backends.protocol import Progress
from launcher.run import launching, spec, watching
from launcher.run.desk import Desk
from launcher.run.launching import launched
from launcher.run.loaded import Backends
from launcher.store import JobRecord, open_store


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
        made.store.ask_stop(job.id, timedelta())
        backend = HasOne("another", Phase.RUNNING)
        desk = Desk(made.store, made.run, Only(backend), run_spec())
        assert launched(desk, made.store.job(job.id)) is None
        assert backend.launches == 0
        assert made.store.job(job.id).phase is Phase.STOPPED


def test_what_is_asked_to_end_is_not_held(tmp_path: Path) -> None:
    with toy(tmp_path) as made:
        job = made.store.jobs(made.run.id)[0]
        made.store.ask_stop(job.id, timedelta())
        assert not made.store.mark_held(job.id)
        assert made.store.job(job.id).open


class Slow(HasOne):
    """A machine that takes for ever to come up; what a launch left is undone when interrupted."""

    undone = False

    def launch(
        self, job: Job, offer: Offer, *, on_lease: Callable[[Lease], None], progress: Progress
    ) -> Lease:
        on_lease(self.lease)
        try:
            time.sleep(60)
        except BaseException:
            self.undone = True
            raise
        raise AssertionError("nobody interrupted it")


@pytest.mark.timeout(30)  # of a minute that it sleeps
def test_a_stop_that_is_asked_for_while_a_machine_comes_up_is_heard(tmp_path: Path) -> None:
    with toy(tmp_path) as made:
        job = made.store.jobs(made.run.id)[0]
        backend = Slow(job.name, Phase.RUNNING)
        desk = Desk(made.store, made.run, Only(backend), run_spec())

        def ask() -> None:
            with contextlib.closing(open_store(made.state)) as store:
                store.ask_stop(job.id, timedelta())

        asking = threading.Timer(0.5, ask)
        asking.start()
        assert launched(desk, made.store.job(job.id)) is None
        asking.join()
        assert backend.undone
        assert made.store.job(job.id).phase is Phase.STOPPED


def test_a_question_to_the_model_leaves_the_run_as_it_is(tmp_path: Path) -> None:
    with toy(tmp_path) as made:
        made.store.set_run(made.run.id, Phase.SUCCEEDED)
        text = spec.job_to_json(job("inference", seconds=1))
        offer = made.store.jobs(made.run.id)[0].offer
        asked = made.store.add_job(
            run_id=made.run.id, kind="inference", name="q", spec=text, offer=offer
        )
        backend = HasOne("q", Phase.RUNNING)
        assert launched(Desk(made.store, made.run, Only(backend), run_spec()), asked)
        assert made.store.run(made.run.id).phase is Phase.SUCCEEDED


class Silence(NotLaunched):
    transient = True


class Shy(HasOne):
    """A provider that does not answer at first."""

    def __init__(self, job: str, *, silent_for: int, transient: bool = True) -> None:
        super().__init__(job, Phase.RUNNING)
        self.silent_for = silent_for
        self.error = (Silence if transient else NotLaunched)("it does not answer")

    def launch(
        self, job: Job, offer: Offer, *, on_lease: Callable[[Lease], None], progress: Progress
    ) -> Lease:
        if self.launches < self.silent_for:
            self.launches += 1
            raise self.error
        return super().launch(job, offer, on_lease=on_lease, progress=progress)


@pytest.mark.parametrize(
    ("goes_on", "transient", "tries"), [(True, True, 3), (True, False, 1), (False, True, 1)]
)
def test_only_what_goes_on_from_another_job_is_launched_again_and_only_after_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, goes_on: bool, transient: bool, tries: int
) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    with toy(tmp_path) as made:
        job = made.store.jobs(made.run.id)[1 if goes_on else 0]
        backend = Shy(job.name, silent_for=2, transient=transient)
        desk = Desk(made.store, made.run, Only(backend), run_spec())
        monkeypatch.setattr(launching, "given", lambda *what: LocalTree(()))
        if tries == 3:
            assert launched(desk, job) == backend.lease
        else:
            with pytest.raises(NotLaunched):
                launched(desk, job)
        assert backend.launches == tries


class Hard(HasOne):
    """A machine that stops answering, or that takes a signal in."""

    def __init__(self, job: str, phase: Phase, *, deaf: bool) -> None:
        super().__init__(job, phase)
        self.deaf = deaf
        self.told: list[timedelta] = []

    def signal(self, lease: Lease, what: Signal, *, grace: timedelta) -> None:
        if self.deaf:
            raise Unreachable("no answer")
        self.told.append(grace)
        self.phase = Phase.STOPPED


@pytest.mark.parametrize("deaf", [False, True])
def test_a_stop_is_told_by_the_conductor_when_who_asked_has_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deaf: bool
) -> None:
    monkeypatch.setattr(watching, "SILENT_S", 0.5)
    with toy(tmp_path) as made:
        job = made.store.jobs(made.run.id)[0]
        backend = Hard(job.name, Phase.UNKNOWN if deaf else Phase.RUNNING, deaf=deaf)
        desk = Desk(made.store, made.run, Only(backend), run_spec())
        made.store.ask_stop(job.id, timedelta(0 if deaf else 1))
        watching.watch(desk, made.store.job(job.id), backend.lease)
        assert made.store.job(job.id).phase is Phase.STOPPED
        assert backend.told == ([] if deaf else [timedelta(1)])
