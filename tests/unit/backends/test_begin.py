"""What a queue starts becomes a job's runner, once or as often as its machine is taken away."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from backends.ssh import begin

RUNNER = """
import json, os, signal, sys, time
assert os.environ["SECRET"] == "canary", "it was not given its variables"
assert sys.argv[1] == "run" and sys.argv[-1] == os.getcwd()
with open("started", "a") as file:
    file.write(" ".join(sys.argv[2:-2]) + ";")
phase = open("ends").read()
if phase == "waits":
    signal.pause()
with open("state.json", "w") as file:
    json.dump({"phase": phase}, file)
sys.exit(3)
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "runner.py").write_text(RUNNER)
    given = {"python": sys.executable, "env": {"SECRET": "canary"}}
    (tmp_path / "given").write_text(json.dumps(given))
    return tmp_path / "home"


def start(home: Path, *more: str) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-I", begin.__file__, str(home.parent / "given"), str(home), *more]
    return subprocess.Popen(argv, env={"CUDA_VISIBLE_DEVICES": "1"}, start_new_session=True)


def test_once_is_once_and_the_secrets_are_gone_before_the_job_begins(home: Path) -> None:
    (home / "ends").write_text("succeeded")
    assert start(home).wait(30) == 3
    assert not (home.parent / "given").exists()
    assert start(home).wait(30) == 0
    assert (home / "started").read_text() == ";"


@pytest.mark.parametrize("phase", ["succeeded", "failed", "stopped", "expired"])
def test_a_verdict_is_the_end_of_it(home: Path, phase: str) -> None:
    (home / "ends").write_text(phase)
    assert start(home, "--again").wait(30) == 3
    assert not (home.parent / "given").exists()
    assert start(home, "--again").wait(30) == 0
    assert (home / "started").read_text() == "--attempt;"


def test_without_a_verdict_it_can_begin_again(home: Path) -> None:
    (home / "ends").write_text("running")
    for _ in range(2):
        assert start(home, "--again").wait(30) == 3
    assert (home.parent / "given").exists()
    assert (home / "started").read_text() == "--attempt;--attempt;"


def test_a_machine_that_is_taken_away_is_not_taken_for_the_jobs_failure(home: Path) -> None:
    """It outlives its runner until it is killed: an exit would be the job's."""
    (home / "ends").write_text("waits")
    process = start(home, "--again")
    end = time.monotonic() + 30
    while not (home / "started").exists():
        assert time.monotonic() < end
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    (runner,) = children(process.pid)
    os.kill(int(runner), signal.SIGTERM)
    while children(process.pid):
        assert time.monotonic() < end
        time.sleep(0.02)
    assert process.poll() is None
    process.kill()
    process.wait(30)
    assert (home.parent / "given").exists()


def children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
