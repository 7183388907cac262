"""The exit code says how the run ended in the end, not what went wrong on the way."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest

from backends import Phase, Plan
from launcher.run.follow import verdict
from launcher.run.spec import AttachJob, JobSpec, job_to_json
from launcher.store import RunRecord, Store, open_store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path)


@pytest.fixture
def run(store: Store) -> RunRecord:
    return store.add_run(
        run_id="r", name="r", recipe="x", backend="local", output_dir=Path("/o"), spec="{}"
    )


def job(
    store: Store,
    kind: str,
    phase: Phase,
    *,
    pulled: bool = True,
    launched: bool = True,
    after: int | None = None,
) -> int:
    count = len(store.jobs("r"))
    attach = () if after is None else (AttachJob(after, PurePosixPath("inputs/before")),)
    wanted = JobSpec(kind, Plan(steps=()), attach=attach, after_success=after is not None)
    text = job_to_json(wanted)
    made = store.add_job(run_id="r", kind=kind, name=f"j{count}", spec=text, offer="{}")
    if launched:
        store.mark_launched(made.id)
    store.mark_ended(made.id, phase, exit_code=None, reason="", cost=None)
    if pulled:
        store.mark_pulled(made.id)
    store.mark_closed(made.id, None)
    return made.id


@pytest.mark.parametrize(
    ("phase", "code"),
    [
        (Phase.SUCCEEDED, 0),
        (Phase.FAILED, 1),
        (Phase.LOST, 6),
        (Phase.EXPIRED, 7),
        (Phase.STOPPED, 130),
    ],
)
def test_each_end_has_its_code(store: Store, run: RunRecord, phase: Phase, code: int) -> None:
    job(store, "train", phase)
    assert verdict(store, run) == code


def test_a_merge_that_was_done_again_counts_as_it_ended(store: Store, run: RunRecord) -> None:
    job(store, "train", Phase.SUCCEEDED)
    job(store, "merge", Phase.FAILED)
    assert verdict(store, run) == 1
    job(store, "merge", Phase.SUCCEEDED)
    assert verdict(store, run) == 0


def test_a_resumed_run_is_judged_by_its_last_training(store: Store, run: RunRecord) -> None:
    job(store, "train", Phase.STOPPED)
    job(store, "merge", Phase.STOPPED, launched=False, pulled=False)
    job(store, "train", Phase.SUCCEEDED)
    job(store, "merge", Phase.SUCCEEDED)
    assert verdict(store, run) == 0


def test_a_question_does_not_change_it(store: Store, run: RunRecord) -> None:
    job(store, "train", Phase.SUCCEEDED)
    asked = job(store, "inference", Phase.FAILED)
    assert verdict(store, run) == 0
    assert verdict(store, run, job_id=asked) == 1


def test_a_launch_that_failed_gives_its_own_code(store: Store, run: RunRecord) -> None:
    failed = job(store, "train", Phase.FAILED, launched=False, pulled=False)
    store.say("r", "error", "nothing is free", job_id=failed, data={"exit_code": 5})
    assert verdict(store, run) == 5


def test_a_pull_that_failed_counts_until_it_is_mended(store: Store, run: RunRecord) -> None:
    unpulled = job(store, "train", Phase.SUCCEEDED, pulled=False)
    store.say("r", "error", "no room", job_id=unpulled, data={"exit_code": 3})
    assert verdict(store, run) == 3
    store.mark_pulled(unpulled)
    assert verdict(store, run) == 0


def test_something_that_may_bill_is_told_before_anything_else(store: Store, run: RunRecord) -> None:
    text = job_to_json(JobSpec("train", Plan(steps=())))
    open_job = store.add_job(run_id="r", kind="train", name="j", spec=text, offer="{}")
    store.say("r", "error", "unsure", job_id=open_job.id, data={"exit_code": 8, "fatal": True})
    assert verdict(store, run) == 8


def test_a_run_without_jobs_has_not_succeeded(store: Store, run: RunRecord) -> None:
    assert verdict(store, run) == 1


def test_what_got_a_training_ready_counts(store: Store, run: RunRecord) -> None:
    first = job(store, "preprocess", Phase.FAILED, pulled=False, launched=False)
    store.say("r", "error", "no such secret", job_id=first, data={"exit_code": 3})
    job(store, "train", Phase.STOPPED, launched=False, after=first)
    assert verdict(store, run) == 3
    again = job(store, "preprocess", Phase.SUCCEEDED)
    job(store, "train", Phase.SUCCEEDED, after=again)
    assert verdict(store, run) == 0
