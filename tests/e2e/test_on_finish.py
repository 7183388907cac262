"""What becomes of a job's machine at its end, on real runs of toy jobs."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path, PurePosixPath

import pytest
from toy_run import Toy, job, toy

from backends import Phase, RunPath, Step
from backends.offer import FREE, Offer
from backends.registry import load
from launcher.on_finish import OnFinish
from launcher.run.adding import add_job
from launcher.run.follow import verdict
from launcher.run.spec import AttachJob
from launcher.store import JobRecord

COPY = """
import os, shutil, sys
os.makedirs(sys.argv[1] + "/output", exist_ok=True)
shutil.copy(sys.argv[1] + "/inputs/train/output/" + sys.argv[2], sys.argv[1] + "/output/copied")
"""


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FTLAUNCH_STATE_DIR", str(tmp_path / "state"))


def conducted(made: Toy) -> None:
    argv = [sys.executable, "-m", "launcher.run.conductor", made.run.id]
    subprocess.run(argv, env=made.environ, check=True, timeout=120)


def copier(made: Toy, after: JobRecord | None = None) -> int:
    """Record a job that copies what the training made, or a later one."""
    after = after or trained(made)
    planned = job("copy", seconds=0)
    steps = (Step("copy", (sys.executable, "-c", COPY, RunPath(""), after.kind)),)
    planned = dataclasses.replace(
        planned,
        plan=dataclasses.replace(planned.plan, steps=steps),
        attach=(AttachJob(after.id, PurePosixPath("inputs/train")),),
    )
    return add_job(made.store, made.run, planned, Offer("local", None, 0, FREE))


def trained(made: Toy) -> JobRecord:
    return made.store.jobs(made.run.id)[0]


def test_destroyed_nothing_is_left_there_and_a_later_job_starts_from_what_was_pulled(
    tmp_path: Path,
) -> None:
    with toy(tmp_path, seconds=0.1, on_finish=OnFinish.DESTROY) as made:
        conducted(made)
        jobs = made.store.jobs(made.run.id)
        assert [job.phase for job in jobs] == [Phase.SUCCEEDED, Phase.SUCCEEDED]
        assert [job.files for job in jobs] == [None, None]
        assert list((made.state / "backends" / "local" / "runs").iterdir()) == []
        argv = [sys.executable, "-m", "launcher", "logs", "toy"]
        log = subprocess.run(argv, env=made.environ, check=True, capture_output=True, text=True)
        kinds = [line.partition(" | ")[0] for line in log.stdout.splitlines()]
        assert kinds == ["train"] * 20 + ["merge"] * 20
        copier(made)
        conducted(made)
        assert (made.out / "output" / "copied").read_text() == "made by train"


def test_what_was_pulled_and_changed_since_is_not_built_on(tmp_path: Path) -> None:
    with toy(tmp_path, seconds=0.1, on_finish=OnFinish.DESTROY) as made:
        conducted(made)
        (made.out / "output" / "train").write_text("made by hand!")
        later = copier(made)
        conducted(made)
        assert made.store.job(later).phase is Phase.FAILED
        assert "not what it was when it was pulled" in made.store.job(later).reason


def test_results_that_could_not_be_pulled_are_not_destroyed(tmp_path: Path) -> None:
    with toy(tmp_path, seconds=0.1, on_finish=OnFinish.DESTROY) as made:
        made.out.write_text("a file where the folder should be")
        conducted(made)
        first = trained(made)
        assert first.pulled_at is None
        assert first.files is not None
        backend = load("local", state_dir=made.state / "backends")
        assert PurePosixPath("output/train") in backend.listing(first.files)


def test_kept_it_is_held_and_said_until_somebody_stops_it(tmp_path: Path) -> None:
    with toy(tmp_path, seconds=0.1, on_finish=OnFinish.KEEP) as made:
        conducted(made)
        jobs = made.store.jobs(made.run.id)
        assert all(job.held and job.lease is not None for job in jobs)
        assert verdict(made.store, made.run) == 0
        assert [run.name for run in made.store.runs(alive=True)] == ["toy"]
        told = [event for event in made.store.events(made.run.id) if event.kind == "held"]
        assert {event.data["hint"] for event in told} == {"let go of it with: ftlaunch stop toy"}
        argv = [sys.executable, "-m", "launcher", "stop", "toy"]
        subprocess.run(argv, env=made.environ, check=True, timeout=60)
        assert all(job.closed_at for job in made.store.jobs(made.run.id))
        assert made.store.runs(alive=True) == []


def test_paused_the_files_stay(tmp_path: Path) -> None:
    with toy(tmp_path, seconds=0.1, on_finish=OnFinish.PAUSE) as made:
        conducted(made)
        assert all(job.files for job in made.store.jobs(made.run.id))


def test_a_narrow_pull_is_built_on(tmp_path: Path) -> None:
    with toy(tmp_path, seconds=0.1, on_finish=OnFinish.DESTROY) as made:
        narrow = dataclasses.replace(
            job("narrow", seconds=0), pull=("output/narrow",), on_finish=OnFinish.DESTROY
        )
        added = add_job(made.store, made.run, narrow, Offer("local", None, 0, FREE))
        conducted(made)
        assert made.store.job(added).files is None
        assert not (made.out / "output" / "starts-narrow").exists()
        copy = copier(made, after=made.store.job(added))
        conducted(made)
        assert made.store.job(copy).phase is Phase.SUCCEEDED
