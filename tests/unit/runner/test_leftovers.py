"""After a step nothing of it is left, and nothing of it holds the run up."""

from __future__ import annotations

import os
import subprocess
import sys

from runner_rig import TRAINER, Rig, is_alive, step

LEAVES = """
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], start_new_session="own" in sys.argv)
while not os.path.exists("ready"):
    pass
open("pid", "w").write(str(child.pid))
"""

SLEEPS = "open('ready', 'w'); import time; time.sleep(1000)"
DEAF = "import signal; signal.signal(15, signal.SIG_IGN); " + SLEEPS


def left(rig: Rig) -> int:
    return int((rig.folder / "pid").read_text())


def test_a_grandchild_that_holds_the_output_open_is_ended(rig: Rig) -> None:
    rig.plan(step(LEAVES, SLEEPS), step("print('next')", name="next"))
    assert rig.run()["phase"] == "succeeded"
    assert not is_alive(left(rig))
    assert rig.texts("next") == ["next"]
    assert any("left processes behind" in line.text for line in rig.lines())


def test_one_that_does_not_hear_is_killed(rig: Rig) -> None:
    rig.plan(step(LEAVES, DEAF))
    assert rig.run()["phase"] == "succeeded"
    assert not is_alive(left(rig))


def test_one_in_a_session_of_its_own_is_found(rig: Rig) -> None:
    rig.plan(step(LEAVES, SLEEPS, "own"))
    assert rig.run()["phase"] == "succeeded"
    assert not is_alive(left(rig))


def test_stop_now_finds_one_in_a_session_of_its_own(rig: Rig) -> None:
    rig.plan(step(LEAVES + "import time; time.sleep(1000)", DEAF, "own"))
    rig.ask("start")
    rig.until_there("pid")
    rig.until("its id", (rig.folder / "pid").read_text)
    rig.ask("stop", "--now")
    assert rig.until_ended()["phase"] == "stopped"
    assert not is_alive(left(rig))


def test_a_trainer_whose_parent_is_killed_does_not_train_on(rig: Rig) -> None:
    rig.plan({"name": "only", "argv": [sys.executable, str(TRAINER)]})
    rig.ask("start")
    rig.until_there("output/trainer.pid")
    parent, trainer = (
        int((rig.folder / "output" / name).read_text()) for name in ("parent.pid", "trainer.pid")
    )
    os.kill(parent, 9)
    state = rig.until_ended()
    assert (state["phase"], state["exit_code"]) == ("failed", 137)
    assert not is_alive(trainer)


def test_a_child_that_the_runner_had_before_is_spared(rig: Rig) -> None:
    rig.plan(step(LEAVES, SLEEPS))
    # The shell becomes the runner, and its background process the runner's child.
    script = 'sleep 1000 & echo $! > sidecar; exec "$@"'
    subprocess.run(
        ["sh", "-c", script, "sh", *rig.argv("run")],
        cwd=rig.folder,
        env=rig.env,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    sidecar = int((rig.folder / "sidecar").read_text())
    assert not is_alive(left(rig))
    assert is_alive(sidecar)
    os.kill(sidecar, 9)
