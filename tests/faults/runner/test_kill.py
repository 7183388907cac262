"""The runner is killed at any moment: what is on the disk stays true, and a new attempt goes on.

FTLAUNCH_FAULTS_SEED chooses the moments, FTLAUNCH_FAULTS_SAMPLE how many (FTLAUNCH_FAULTS=full:
many). A moment is drawn before the run; whatever it meets, the same must hold.
"""

from __future__ import annotations

import os
import random
import signal
import time

import pytest
from runner_rig import Rig, is_alive, step

from backends import rundir, runner

pytestmark = pytest.mark.faults

FULL = os.environ.get("FTLAUNCH_FAULTS") == "full"
SEED = int(os.environ.get("FTLAUNCH_FAULTS_SEED", "20260101"))
SAMPLE = int(os.environ.get("FTLAUNCH_FAULTS_SAMPLE", "200" if FULL else "4"))

TALKS = """
import os, sys, time
os.makedirs("output", exist_ok=True)
for n in range(300):
    print("line", n, "loss=%d" % n, flush=True)
    open("output/file-%d" % (n % 10), "w").write(str(n))
    time.sleep(0.001)
"""


def moments() -> list[int]:
    """A seed for each case, so that one can be run again by itself."""
    return [SEED + number for number in range(SAMPLE)]


def all_lines(rig: Rig) -> list[rundir.LogLine]:
    lines = rig.lines("first") + rig.lines("second")
    return sorted(lines, key=lambda line: line.seq)


@pytest.mark.parametrize("seed", moments())
def test_killed_at_any_moment(rig: Rig, seed: int) -> None:
    told = f"FTLAUNCH_FAULTS_SEED={seed} FTLAUNCH_FAULTS_SAMPLE=1"
    moment = random.Random(seed).uniform(0.0, 2.0)
    rig.env["FTLAUNCH_HEARTBEAT_S"] = "0.01"
    rig.plan(
        step(TALKS, name="first"),
        step(TALKS, name="second"),
        metrics=["loss=(?P<loss>[0-9]+)"],
        disk_reserve_bytes=1 << 16,
    )
    running = rig.popen()
    time.sleep(moment)
    running.kill()
    running.wait()

    state = rig.ask("status")
    assert state["alive"] is False, told
    assert state["phase"] in ("absent", "lost", "succeeded"), (told, state)
    if state["phase"] == "succeeded":
        assert state["exit_code"] == 0, (told, state)
    before = [line.seq for line in _whole_lines(rig)]
    assert len(set(before)) == len(before), told

    after = rig.ask("start", "--attempt")
    final = rig.until_ended()
    assert final["phase"] == "succeeded", (told, after, final)
    assert final["version"] > state.get("version", 0), told
    assert final["attempt"] == state.get("attempt", 0) + 1, told
    numbers = [line.seq for line in all_lines(rig)]
    assert len(set(numbers)) == len(numbers), (told, "a number was used twice")
    assert set(before) <= set(numbers), (told, "a line vanished")
    texts = [line.text for line in all_lines(rig)]
    assert texts[-300:] == [f"line {n} loss={n}" for n in range(300)], told
    manifest = rig.manifest()
    assert [str(file.path) for file in manifest.files] == [f"output/file-{n}" for n in range(10)]
    assert not (rig.folder / ".reserve").exists(), told
    assert not list(rig.folder.glob(".*.tmp")), told


def _whole_lines(rig: Rig) -> list[rundir.LogLine]:
    """What a reader of a killed run's log sees: its last line may be torn."""
    found = []
    for path in sorted(rig.folder.glob("logs/*/*.log")):
        for raw in path.read_bytes().split(b"\n")[:-1]:
            line = rundir.parse_line(raw)
            assert line is not None, (path, raw)
            found.append(line)
    return found


@pytest.mark.parametrize("seed", moments())
def test_stop_after_a_kill_leaves_nobody(rig: Rig, seed: int) -> None:
    """The step ignores that its output has no reader; so it lives until it is ended."""
    told = f"FTLAUNCH_FAULTS_SEED={seed} FTLAUNCH_FAULTS_SAMPLE=1"
    code = (
        "import os, signal, time; signal.signal(13, signal.SIG_IGN)\n"
        "open('pids', 'a').write(str(os.getpid()) + '\\n')\n"
        "if os.fork() == 0: os.setsid(); open('pids', 'a').write(str(os.getpid()) + '\\n')\n"
        "time.sleep(1000)"
    )
    rig.plan(step(code))
    running = rig.popen()
    time.sleep(random.Random(seed).uniform(0.0, 1.0))
    running.kill()
    running.wait()
    after = rig.ask("stop", "--now")
    assert after["phase"] in ("absent", "lost"), (told, after)
    pids = rig.folder / "pids"
    for pid in pids.read_text().split() if pids.exists() else ():
        assert not is_alive(int(pid)), told


def test_killed_while_hashing_the_outcome_stands(rig: Rig) -> None:
    # So big, and so empty on the disk, that hashing it cannot end before the kill.
    code = "import os; os.mkdir('output'); os.truncate(os.open('output/x', 66), 1 << 43)"
    rig.plan(step(code), step("raise SystemExit(3)", name="fails"))
    running = rig.popen()
    rig.until_there("state.json")
    rig.until("the outcome", lambda: rig.state()["outcome"])
    assert rig.ask("status")["phase"] == "running"
    running.kill()
    running.wait()
    state = rig.ask("status")
    assert (state["phase"], state["exit_code"]) == ("failed", 3)
    assert "step fails exited with code 3" in state["reason"]
    assert "the runner was gone before the manifest was written" in state["reason"]
    assert not (rig.folder / "manifest.json").exists()
    assert rig.ask("stop")["phase"] == "failed"


def test_killed_between_the_manifest_and_the_last_word(rig: Rig) -> None:
    rig.plan(step(""))
    rig.run()
    state = {**rig.state(), "phase": "running"}
    (rig.folder / "state.json").write_bytes(runner.encoded(state))
    found = rig.ask("status")
    assert (found["phase"], found["reason"]) == ("succeeded", "")


def test_signalled_while_hashing_it_still_ends(rig: Rig) -> None:
    code = "import os; os.mkdir('output'); os.truncate(os.open('output/x', 66), 1 << 28)"
    rig.plan(step(code))
    running = rig.popen()
    rig.until_there("state.json")
    rig.until("the outcome", lambda: rig.state()["outcome"])
    running.send_signal(signal.SIGTERM)
    assert running.wait() == 0
    assert rig.manifest().files[0].size_bytes == 1 << 28
