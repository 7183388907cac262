"""Without capacity a run goes to its next offer: only then, and never beside one in doubt."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from auto_places import (
    FULL,
    OFFER,
    OTHER,
    PLACES,
    PLAIN,
    QUEUED,
    Place,
    desk_of,
    finished,
    job_of,
    waited,
    with_likely,
)
from auto_run import auto, no_software, refusals
from toy_run import Toy

from backends import Lease, Observation, Phase
from backends.errors import (
    CredentialsMissing,
    FtlaunchError,
    MayStillBill,
    NoCapacity,
    NotLaunched,
    Refused,
    Unreachable,
    Unsure,
)
from backends.lease import Keep
from backends.offer import Money, Offer
from backends.protocol import silent
from launcher.run import moving, spec
from launcher.run.launching import launched
from launcher.run.limits import Left, deadline
from launcher.run.limits import left as left_for
from launcher.run.spec import AttachJob
from launcher.store import JobRecord, open_store


@pytest.fixture(autouse=True)
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FTLAUNCH_STATE_DIR", str(tmp_path / "state"))
    no_software(monkeypatch)


def test_the_next_offer_gets_the_run_as_it_is_there(tmp_path: Path) -> None:
    first, second = Place("first", fails=FULL), Place("second")
    with auto(tmp_path, PLACES) as made:
        finished(made, first, second)
        assert refusals(made) == [("first", "nothing is free")]
        refused, taken = made.store.jobs(made.run.id)
        assert (refused.phase, refused.reason) == (Phase.FAILED, "nothing is free")
        assert (taken.backend, taken.phase) == ("second", Phase.SUCCEEDED)
        assert refused.name != taken.name
        argv = spec.job_from_json(taken.spec).plan.steps[0].argv
        assert argv[argv.index("--num_processes") + 1] == "2", "it is settled for the first still"
        settled = spec.run_from_json(made.store.run_spec(made.run.id))
        assert (settled.target.gpus, settled.elsewhere) == (2, ())
        assert made.store.run(made.run.id).backend == "second"
        assert made.store.run(made.run.id).phase is Phase.SUCCEEDED


@pytest.mark.parametrize(
    "error",
    [
        NotLaunched("no balance"),
        Unreachable("no answer"),
        CredentialsMissing("no key"),
        Refused("no such secret"),
        Unsure("perhaps", intent="x"),
        MayStillBill("perhaps"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_no_other_error_sends_it_on(tmp_path: Path, error: FtlaunchError) -> None:
    first, second = Place("first", fails=error), Place("second")
    with auto(tmp_path, PLACES) as made:
        with contextlib.suppress(SystemExit):
            finished(made, first, second)
        assert second.asked == []
        assert len(made.store.jobs(made.run.id)) == 1


def test_a_launch_that_was_in_doubt_once_is_never_followed_by_another(tmp_path: Path) -> None:
    first, second = Place("first", fails=Unsure("perhaps", intent="x")), Place("second")
    with auto(tmp_path, PLACES) as made:
        with pytest.raises(SystemExit):
            finished(made, first, second)
        first.fails = FULL
        finished(made, first, second)  # as `ftlaunch wait` does
        assert len(first.asked) == 2
        assert second.asked == []
        assert made.store.run(made.run.id).phase is Phase.FAILED


class Killed(BaseException):
    """Ends a conductor where it stands."""


def test_a_launch_that_was_cut_short_is_never_followed_by_another(tmp_path: Path) -> None:
    class Cuts(Place):
        def launch(self, *given: Any, **more: Any) -> Lease:
            if not self.asked:
                self.asked.append(given[0].name)
                raise Killed
            return super().launch(*given, **more)

    first, second = Cuts("first", fails=FULL), Place("second")
    with auto(tmp_path, PLACES) as made:
        with pytest.raises(Killed):
            finished(made, first, second)
        finished(made, first, second)
        assert len(first.asked) == 2, "it may be free there, or what there is of it found"
        assert second.asked == [], "what the first launch asked for may yet come"
        assert made.store.run(made.run.id).phase is Phase.FAILED


def test_a_crash_before_anybody_was_asked_is_no_doubt(tmp_path: Path) -> None:
    first, second = Place("first", fails=FULL), Place("second")
    with auto(tmp_path, PLACES) as made:
        made.store.mark_intent(job_of(made).id)
        finished(made, first, second)
        assert len(second.asked) == 1


def test_what_the_refused_launch_left_is_let_go_of_first(tmp_path: Path) -> None:
    class Leaves(Place):
        def launch(self, *given: Any, on_lease: Callable[[Lease], None], **more: Any) -> Lease:
            self.fails = None
            super().launch(*given, on_lease=on_lease, **more)
            raise FULL

    first, second = Leaves("first"), Place("second")
    with auto(tmp_path, PLACES) as made:
        first.unconfirmed = True
        with pytest.raises(SystemExit) as end:
            finished(made, first, second)
        assert end.value.code == MayStillBill.exit_code
        assert second.asked == [], "the first may bill, and a second was rented"
        first.unconfirmed = False
        finished(made, first, second)  # as `ftlaunch wait` does
        assert first.released == first.asked
        assert len(second.asked) == 1
    second = Place("second")
    with auto(tmp_path / "again", PLACES) as made:
        first = Leaves("first")
        finished(made, first, second)
        assert first.released == first.asked
        assert len(second.asked) == 1


@pytest.mark.parametrize(
    ("minutes", "seen", "offer", "left"),
    [
        (11, Observation(Phase.QUEUED), QUEUED, True),
        (9, Observation(Phase.QUEUED), QUEUED, False),
        (11, Observation(Phase.RUNNING), QUEUED, False),
        (11, Observation(Phase.UNKNOWN), QUEUED, False),
        (11, Observation(Phase.QUEUED, state={"phase": "running"}), QUEUED, False),
        (11, Observation(Phase.QUEUED), OFFER, False),
    ],
    ids=["too long", "not long", "it runs", "silent", "it ran before", "where waiting costs"],
)
def test_a_queue_is_left_after_a_while(
    tmp_path: Path, minutes: float, seen: Observation, offer: Offer, left: bool
) -> None:
    with auto(tmp_path, [("first", offer), ("second", OTHER)]) as made:
        job = waited(made, minutes)
        desk = desk_of(made)
        if left:
            with pytest.raises(NoCapacity, match="no L4 x 1 was free for it in 10 min"):
                moving.require_patience(desk, job, seen)
        else:
            moving.require_patience(desk, job, seen)


def test_a_job_that_was_seen_with_its_machine_is_never_left(tmp_path: Path) -> None:
    class Looks(Place):
        """Its container starts, is then told as queued for once, and ends well."""

        looks = iter([Phase.STARTING, Phase.QUEUED, Phase.SUCCEEDED])

        def observe(self, lease: Lease) -> Observation:
            return Observation(next(self.looks))

    first, second = Looks("first"), Place("second")
    places = [("first", QUEUED), ("second", OTHER)]
    with auto(tmp_path, places, max_wait=timedelta(microseconds=1)) as made:
        finished(made, first, second)
        assert refusals(made) == []
        assert made.store.run(made.run.id).phase is Phase.SUCCEEDED


class Stops(Place):
    """What is let go of there stops, and of that it says nothing."""

    def release(self, lease: Lease, *, keep: Keep) -> None:
        self.seen = Observation(Phase.LOST, reason="it was let go of before its end")
        super().release(lease, keep=keep)


def test_a_queue_whose_end_was_unconfirmed_is_left_once_it_is(tmp_path: Path) -> None:
    first, second = Stops("first"), Place("second")
    first.seen, first.unconfirmed = Observation(Phase.QUEUED), True
    places = [("first", QUEUED), ("second", OTHER)]
    with auto(tmp_path, places, max_wait=timedelta(microseconds=1)) as made:
        with pytest.raises(SystemExit):
            finished(made, first, second)
        with pytest.raises(SystemExit):
            finished(made, first, second)  # it is gone there, and still not confirmed
        assert second.asked == []
        first.unconfirmed = False
        finished(made, first, second)
        assert [why for _, why in refusals(made)] == ["no L4 x 1 was free for it in 0 s"]
        assert made.store.run(made.run.id).phase is Phase.SUCCEEDED
        assert (len(first.asked), len(second.asked)) == (1, 1)


def test_what_got_its_machine_while_it_was_being_left_is_kept(tmp_path: Path) -> None:
    first, second = Place("first"), Place("second")
    first.seen, first.unconfirmed = Observation(Phase.QUEUED), True
    places = [("first", QUEUED), ("second", OTHER)]
    with auto(tmp_path, places, max_wait=timedelta(microseconds=1)) as made:
        with pytest.raises(SystemExit):
            finished(made, first, second)
        first.seen = Observation(Phase.SUCCEEDED, state={"phase": "succeeded"})
        first.unconfirmed = False
        finished(made, first, second)
        assert (refusals(made), second.asked) == ([], [])
        assert made.store.run(made.run.id).phase is Phase.SUCCEEDED


def test_a_stop_ends_what_is_being_left(tmp_path: Path) -> None:
    first, second = Stops("first"), Place("second")
    first.seen, first.unconfirmed = Observation(Phase.QUEUED), True
    places = [("first", QUEUED), ("second", OTHER)]
    with auto(tmp_path, places, max_wait=timedelta(microseconds=1)) as made:
        with pytest.raises(SystemExit):
            finished(made, first, second)
        made.store.ask_stop(job_of(made).id, timedelta())
        first.unconfirmed = False
        first.seen = Observation(Phase.STOPPED, reason="stopped before it began")
        finished(made, first, second)
        assert (refusals(made), second.asked) == ([], [])
        assert job_of(made).phase is Phase.STOPPED
        assert job_of(made).closed_at is not None


def test_in_the_last_queue_it_waits_for_as_long_as_it_takes(tmp_path: Path) -> None:
    with auto(tmp_path, [("first", QUEUED)]) as made:
        moving.require_patience(desk_of(made), waited(made, 999), Observation(Phase.QUEUED))


def test_a_training_that_goes_on_from_a_checkpoint_stays(tmp_path: Path) -> None:
    with auto(tmp_path, PLACES) as made:
        job = job_of(made)
        wanted = spec.job_from_json(job.spec)
        anyhow = AttachJob(job.id, PurePosixPath("inputs/resumed"), anyhow=True)
        resumed = replace(job, spec=spec.job_to_json(replace(wanted, attach=(anyhow,))))
        assert not moving.may_move(desk_of(made), resumed)
        assert moving.may_move(desk_of(made), job)


def test_a_run_whose_end_was_asked_for_rents_nothing_more(tmp_path: Path) -> None:
    first, second = Place("first", fails=FULL), Place("second")
    with auto(tmp_path, PLACES) as made:
        made.store.ask_stop(job_of(made).id, timedelta())
        assert not moving.move(desk_of(made, first, second), job_of(made), FULL, silent)
        assert len(made.store.jobs(made.run.id)) == 1


CPU_AND_GPU = replace(QUEUED, plain=PLAIN)
APART = spec.Steps(preprocess=True, merge=False)


def got_ready(made: Toy, ready: JobRecord) -> None:
    """The data are ready: two and a half hours without a GPU, for a quarter of a dollar."""
    made.store.mark_intent(ready.id)
    made.store.mark_launched(ready.id)
    cost = Money(Decimal("0.25"))
    made.store.mark_ended(ready.id, Phase.SUCCEEDED, exit_code=0, reason="", cost=cost)


def test_data_got_ready_in_vain_are_taken_off_the_limits(tmp_path: Path) -> None:
    limits = {"max_cost": Decimal(1), "max_duration": timedelta(hours=6)}
    third = replace(OTHER, backend="third", price=Money(Decimal("0.1")))
    places = [("first", CPU_AND_GPU), ("second", CPU_AND_GPU), ("third", third)]
    with auto(tmp_path, places, steps=APART, **limits) as made:
        for number, backend in enumerate(("first", "second")):
            ready, train = made.store.jobs(made.run.id)[2 * number :]
            assert (ready.kind, train.kind) == ("preprocess", "train")
            left = deadline(desk_of(made), ready)
            assert left == timedelta(hours=6 - 2.5 * number)
            got_ready(made, ready)
            made.store.mark_intent(train.id)
            desk = desk_of(made, Place("first"), Place("second"))
            assert moving.move(desk, made.store.job(train.id), FULL, silent), backend
        settled = spec.run_from_json(made.store.run_spec(made.run.id))
        assert settled.max_cost == Decimal(1)
        kinds = [(job.kind, job.backend) for job in made.store.jobs(made.run.id)]
        assert kinds[1:] == [
            ("train", "first"),
            ("preprocess", "second"),
            ("train", "second"),
            ("train", "third"),
        ]
        last = job_of(made, 4)
        argv = [step.name for step in spec.job_from_json(last.spec).plan.steps]
        assert argv == ["preprocess", "train"], "the other place has nothing that was got ready"
        desk = desk_of(made)
        assert left_for(desk, last) == Left(timedelta(hours=1), Decimal("0.5"))
        assert deadline(desk, last) == timedelta(hours=1)


def test_hours_in_a_queue_that_was_left_are_none_of_the_limits(tmp_path: Path) -> None:
    limits = {"max_cost": Decimal(1), "max_duration": timedelta(hours=6)}
    with auto(tmp_path, [("first", QUEUED), ("second", OTHER)], **limits) as made:
        job = waited(made, minutes=300)
        assert moving.move(desk_of(made, Place("first")), job, FULL, silent)
        assert left_for(desk_of(made), job_of(made, 1)) == Left(timedelta(hours=6), Decimal(1))


@pytest.mark.parametrize(
    ("second", "third", "taken"),
    [
        (("0.75", 3.5), ("0.7", 3), "second"),
        (("0.76", 3), ("0.7", 3), "third"),
        (("0.7", 3.6), ("0.7", 3), "third"),
        (("0.76", 3), (None, None), "third"),
        (("0.76", 3), ("0.7", 3.6), None),
    ],
)
def test_an_offer_that_is_likely_above_what_is_left_is_passed_over(
    tmp_path: Path,
    second: tuple[str | None, float | None],
    third: tuple[str | None, float | None],
    taken: str | None,
) -> None:
    limits = {"max_cost": Decimal(1), "max_duration": timedelta(hours=6)}
    places = [("first", CPU_AND_GPU), ("second", OTHER), ("third", OTHER)]
    with auto(tmp_path, places, steps=APART, **limits) as made:
        with_likely(made, second, third)
        ready, train = made.store.jobs(made.run.id)
        got_ready(made, ready)
        made.store.mark_intent(train.id)
        made.store.mark_launched(train.id, launched_at=datetime.now(UTC) - timedelta(hours=1))
        desk, job = desk_of(made, Place("first")), made.store.job(train.id)
        if taken is None:
            moving.require_patience(desk, job, Observation(Phase.QUEUED))  # it stays in the queue
            assert not moving.move(desk, job, FULL, silent)
            return
        assert moving.move(desk, job, FULL, silent)
        settled = spec.run_from_json(made.store.run_spec(made.run.id))
        assert made.store.run(made.run.id).backend == taken
        told = "second, A100-80GB x 2: likely above what was left of the limits"
        assert settled.left_out == ((told,) if taken == "third" else ())
        assert len(settled.elsewhere) == (1 if taken == "second" else 0)


def test_a_follower_that_waits_for_the_launch_hears_of_the_new_one(tmp_path: Path) -> None:
    from launcher.cli.following import _awaited

    first, second = Place("first", fails=FULL), Place("second")
    with auto(tmp_path, PLACES) as made:
        desk = desk_of(made, first, second)
        with pytest.raises(NoCapacity):
            launched(desk, job_of(made))
        assert moving.move(desk, job_of(made), FULL, silent)
        store = open_store(made.state)
        assert _awaited(store, made.run) == store.jobs(made.run.id)[1].id
