"""Ending a run: with a checkpoint where the plan says how, in time, and with nothing left over."""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

import pytest
from runner_rig import TRAINER, Rig, is_alive, step

from backends import runner

RULE = {"glob": "output/checkpoint-*", "requires": [["*.safetensors"], ["trainer_state.json"]]}
RECIPE = {"touch": ["output/save-now"], "wait_s": 600, "interrupt_s": 600, "steps": ["train"]}
ENDS_ON_TERM = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
open("on", "w")
time.sleep(1000)
"""
LATER = step("open('later', 'w')", name="later")


def plan_training(rig: Rig, *options: str, **changes: Any) -> Rig:
    train = {
        "name": "train",
        "argv": [sys.executable, str(TRAINER), *options],
        "timeout_s": changes.pop("timeout_s", None),
    }
    steps = changes.pop("steps", [train, LATER])
    recipe = {**RECIPE, **changes.pop("recipe", {})}
    return rig.plan(*steps, stop=recipe, checkpoint=RULE, **changes)


def begin(rig: Rig) -> dict[str, int]:
    """Start it, and wait until it trains; the two processes of the trainer."""
    rig.ask("start")
    rig.until_there("output/trainer.pid")
    rig.until("its first checkpoint", lambda: any(row["complete"] for row in rows(rig)))
    return {
        who: int((rig.folder / "output" / f"{who}.pid").read_text())
        for who in ("parent", "trainer")
    }


def rows(rig: Rig) -> list[dict[str, Any]]:
    found = rig.state()["checkpoints"]
    # Some plans of these tests have a rule that finds none; then there is nothing to wait for.
    rule = json.loads((rig.folder / "plan.json").read_bytes())["checkpoint"]
    return found if rule == RULE else [{"complete": True}]


def complete(state: dict[str, Any]) -> list[str]:
    return [row["path"] for row in state["checkpoints"] if row["complete"]]


def test_a_stop_waits_for_a_checkpoint_and_lets_the_orphan_save(rig: Rig) -> None:
    plan_training(rig)
    pids = begin(rig)
    rig.ask("stop")
    state = rig.until_ended()
    # The trainer ends with 0 after an interrupt; that is no success.
    assert (state["phase"], state["exit_code"]) == ("stopped", 0)
    assert "stop requested; checkpoint output/checkpoint-" in state["reason"]
    newest = complete(state)[-1]
    assert newest != "output/checkpoint-1"  # it was there before
    assert newest in state["reason"]
    assert (rig.folder / "output" / "adapter_model.safetensors").exists()
    assert not any(map(is_alive, pids.values()))
    assert not (rig.folder / "later").exists()
    assert [row["phase"] for row in state["steps"]] == ["stopped", "waiting"]
    assert not (rig.folder / "output" / "save-now").exists()
    manifest = rig.manifest()
    assert manifest.verdict == "stopped"
    assert f"{newest}/trainer_state.json" in {str(file.path) for file in manifest.files}


def test_when_no_checkpoint_comes_it_is_interrupted_all_the_same(rig: Rig) -> None:
    plan_training(rig, "--refuses", recipe={"wait_s": 0.5})
    begin(rig)
    rig.ask("stop")
    state = rig.until_ended()
    assert state["phase"] == "stopped"
    assert "no new checkpoint in time" in state["reason"]
    assert (rig.folder / "output" / "adapter_model.safetensors").exists()
    assert not (rig.folder / "output" / "save-now").exists()  # not for the next attempt


def test_a_deaf_trainer_is_killed(rig: Rig) -> None:
    plan_training(rig, "--deaf", recipe={"interrupt_s": 0.5})
    pids = begin(rig)
    rig.ask("stop")
    state = rig.until_ended()
    assert state["phase"] == "stopped"
    assert "killed: still there 0.5 s after the signal" in state["reason"]
    assert complete(state)[-1] != "output/checkpoint-1"
    assert not any(map(is_alive, pids.values()))


def test_the_grace_bounds_the_whole(rig: Rig) -> None:
    plan_training(rig, "--deaf", "--refuses")  # either wait of the recipe is ten minutes
    pids = begin(rig)
    rig.ask("stop", "--grace", "1")
    state = rig.until_ended()
    assert state["phase"] == "stopped"
    assert "killed: the grace is over" in state["reason"]
    assert not any(map(is_alive, pids.values()))


def test_a_short_grace_leaves_time_after_the_interrupt(rig: Rig) -> None:
    plan_training(rig, "--refuses")
    begin(rig)
    rig.ask("stop", "--grace", "20")  # the recipe would wait ten minutes for a checkpoint
    state = rig.until_ended()
    assert (rig.folder / "output" / "adapter_model.safetensors").exists()
    assert "killed" not in state["reason"]


def test_stop_now_kills_at_once(rig: Rig) -> None:
    plan_training(rig)
    pids = begin(rig)
    rig.ask("stop", "--now")
    state = rig.until_ended()
    assert (state["phase"], state["exit_code"]) == ("stopped", 137)
    assert complete(state) == ["output/checkpoint-1"]
    assert not (rig.folder / "output" / "adapter_model.safetensors").exists()
    assert not any(map(is_alive, pids.values()))


def test_a_second_request_can_hurry_the_first(rig: Rig) -> None:
    plan_training(rig, "--deaf", "--refuses")
    begin(rig)
    rig.ask("stop")
    rig.until("the stop", lambda: rig.state()["phase"] == "stopping")
    rig.ask("stop", "--now")
    assert rig.until_ended()["phase"] == "stopped"


def test_other_steps_get_sigterm(rig: Rig) -> None:
    rig.plan(step(ENDS_ON_TERM), LATER, stop={"interrupt_s": 600})
    rig.ask("start")
    rig.until_there("on")
    rig.ask("stop")
    state = rig.until_ended()
    assert (state["phase"], state["exit_code"]) == ("stopped", 7)
    assert not (rig.folder / "later").exists()


def test_a_step_that_ends_by_itself_while_a_checkpoint_is_awaited_has_succeeded(rig: Rig) -> None:
    only = {"name": "train", "argv": [sys.executable, str(TRAINER), "--finishes-on-save"]}
    never = {"glob": "output/never-*", "requires": [["x"]]}
    rig.plan(only, stop=RECIPE, checkpoint=never)
    begin(rig)
    rig.ask("stop")
    state = rig.until_ended()
    assert (state["phase"], state["exit_code"]) == ("succeeded", 0)
    assert state["reason"] == "step train exited with code 0 by itself after: stop requested"


def test_and_no_later_step_runs_then(rig: Rig) -> None:
    train = {"name": "train", "argv": [sys.executable, str(TRAINER), "--finishes-on-save"]}
    never = {"glob": "output/never-*", "requires": [["x"]]}
    rig.plan(train, LATER, stop=RECIPE, checkpoint=never)
    begin(rig)
    rig.ask("stop")
    state = rig.until_ended()
    assert (state["phase"], state["exit_code"]) == ("stopped", 0)
    assert [row["phase"] for row in state["steps"]] == ["succeeded", "waiting"]
    assert "by itself after: stop requested before step later" in state["reason"]


def test_a_checkpoint_is_written_and_the_training_goes_on(rig: Rig) -> None:
    plan_training(rig)
    pids = begin(rig)
    rig.until("the first", lambda: complete(rig.state()) == ["output/checkpoint-1"])
    rig.ask("checkpoint")
    rig.until("another", lambda: len(complete(rig.state())) == 2)
    assert rig.ask("status")["phase"] == "running"
    assert all(map(is_alive, pids.values()))
    assert not (rig.folder / "control" / "checkpoint.json").exists()


def test_a_stop_before_the_start_is_obeyed(rig: Rig) -> None:
    plan_training(rig)
    rig.ask("stop")
    state = rig.run()
    assert (state["phase"], state["exit_code"], state["run exited"]) == ("stopped", None, 130)
    assert not (rig.folder / "output").exists()
    rig.plan(step(""))
    assert rig.run("--attempt")["phase"] == "succeeded"  # the old request is not for this one


def test_asking_an_ended_run_changes_nothing(rig: Rig) -> None:
    rig.plan(step(""))
    rig.run()
    before = {path: path.stat().st_mtime_ns for path in rig.folder.rglob("*")}
    assert rig.ask("stop")["phase"] == rig.ask("checkpoint")["phase"] == "succeeded"
    assert {path: path.stat().st_mtime_ns for path in rig.folder.rglob("*")} == before


@pytest.mark.parametrize("what", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_the_foreground_runner_is_a_stop(rig: Rig, what: signal.Signals) -> None:
    plan_training(rig)
    running = rig.popen()
    rig.until_there("output/trainer.pid")
    running.send_signal(what)
    assert running.wait() == 130
    state = rig.state()
    assert state["reason"].startswith(f"{what.name}; checkpoint ")
    assert (rig.folder / "output" / "adapter_model.safetensors").exists()


def test_the_detached_runner_does_not_mind_a_hangup(rig: Rig) -> None:
    plan_training(rig)
    begin(rig)
    state = rig.state()
    os.kill(state["pid"], signal.SIGHUP)
    rig.ask("checkpoint")
    rig.until("it goes on", lambda: len(complete(rig.state())) == 2)
    assert rig.ask("status")["phase"] == "running"


def test_a_step_that_takes_too_long_expires(rig: Rig) -> None:
    plan_training(rig, timeout_s=1.5)
    state = rig.run()
    assert (state["phase"], state["run exited"]) == ("expired", 124)
    assert state["reason"].startswith("step train passed its time-out of 1.5 s; ")
    assert not (rig.folder / "later").exists()


def test_the_deadline_of_the_run_expires_it(rig: Rig) -> None:
    first = step("import time; time.sleep(0.2)", name="first")
    rig.plan(first, step("import time; time.sleep(1000)"), LATER, deadline_s=1)
    state = rig.run()
    assert state["phase"] == "expired"
    assert state["reason"].startswith("the deadline of 1 s passed; ")
    assert state["deadline_at"] > state["started_at"]
    assert [row["phase"] for row in state["steps"]] == ["succeeded", "expired", "waiting"]


def test_a_new_attempt_has_what_is_left_of_the_deadline(rig: Rig) -> None:
    rig.plan(step("import time; time.sleep(0.5); raise SystemExit(1)"), deadline_s=3600)
    rig.run()
    rig.plan(step(""), deadline_s=0.4)
    state = rig.run("--attempt")
    assert state["phase"] == "expired"
    assert state["reason"] == "the deadline of 0.4 s passed before step only"


def test_a_checkpoint_is_complete_when_all_is_there_and_two_looks_agree(rig: Rig) -> None:
    folder = rig.folder / "output" / "checkpoint-3"
    folder.mkdir(parents=True)
    found = runner.Checkpoints(
        str(rig.folder), runner.Rule("output/checkpoint-*", (("a*", "b"), ("last",)))
    )

    def look(now: float) -> list[bool]:
        found.look(now)
        return [row["complete"] for row in found.rows]

    (folder / "b").write_text("x")
    assert (look(0), look(1)) == ([False], [False])
    (folder / "last").touch()
    assert (look(2), look(3)) == ([False], [False])  # an empty file is none
    (folder / "last").write_text("x")
    assert (look(4), look(4.1), look(5)) == ([False], [False], [True])
    (folder / "last").write_text("xy")
    assert (look(6), look(7)) == ([False], [True])
    (rig.folder / "output" / "checkpoint-10").mkdir()
    found.look(8, final=True)
    assert [row["path"] for row in found.rows] == ["output/checkpoint-3", "output/checkpoint-10"]
    assert found.rows[0] == {"path": "output/checkpoint-3", "complete": True, "bytes": 3}
