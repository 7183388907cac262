"""The conductor may die at any moment: nothing runs twice, is lost, or stays behind."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from toy_run import Toy, toy

from backends import Phase
from backends.registry import load

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

FULL = os.environ.get("FTLAUNCH_FAULTS") == "full"
SEED = int(os.environ.get("FTLAUNCH_FAULTS_SEED", "20261124"))
CASES = 40 if FULL else 3


def conductor(made: Toy) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-m", "launcher.run.conductor", made.run.id]
    return subprocess.Popen(argv, env=made.environ, start_new_session=True)


def assert_all_is_well(made: Toy) -> None:
    jobs = made.store.jobs(made.run.id)
    assert [job.phase for job in jobs] == [Phase.SUCCEEDED, Phase.SUCCEEDED]
    assert all(job.pulled_at and job.closed_at and job.lease is None for job in jobs)
    for kind in ("train", "merge"):
        assert (made.out / "output" / f"starts-{kind}").read_text() == "started\n"
        assert (made.out / "output" / kind).read_text() == f"made by {kind}"
    assert load("local", state_dir=made.state / "backends").leases() == []


@pytest.mark.parametrize("case", range(CASES))
def test_killed_at_any_moment_and_started_again(tmp_path: Path, case: int) -> None:
    chance = random.Random(SEED * 1000 + case)
    with toy(tmp_path, seconds=0.6) as made:
        kills = [chance.uniform(0.0, 1.6) for _ in range(chance.randint(1, 4))]
        for after in kills:
            process = conductor(made)
            time.sleep(after)
            process.send_signal(signal.SIGKILL)
            process.wait()
        last = conductor(made)
        assert last.wait(120) == 0, f"seed {SEED}, case {case}, kills {kills}"
        assert_all_is_well(made)


def test_two_at_once_do_the_work_once(tmp_path: Path) -> None:
    with toy(tmp_path, seconds=0.6) as made:
        both = [conductor(made), conductor(made), conductor(made)]
        assert [process.wait(120) for process in both] == [0, 0, 0]
        assert_all_is_well(made)


def test_a_full_disk_where_results_go_loses_nothing(tmp_path: Path) -> None:
    """A folder that cannot be written stands for it: a file is in the way of the results."""
    with toy(tmp_path, seconds=0.2) as made:
        made.out.write_text("in the way")
        conductor(made).wait(120)
        jobs = made.store.jobs(made.run.id)
        assert [job.phase for job in jobs] == [Phase.SUCCEEDED, Phase.SUCCEEDED]
        assert all(job.closed_at and job.pulled_at is None and job.files for job in jobs)
        errors = [event for event in made.store.events(made.run.id) if event.kind == "error"]
        assert len(errors) == 2
        made.out.unlink()
        pulled = subprocess.run(
            [str(Path(sys.executable).with_name("ftlaunch")), "pull", "toy"],
            env=made.environ,
            capture_output=True,
            text=True,
            check=False,
        )
        assert pulled.returncode == 0, pulled.stderr
        assert_all_is_well(made)
