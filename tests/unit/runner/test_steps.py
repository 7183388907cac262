"""The runner runs steps in order, each with what its plan gives it."""

from __future__ import annotations

import json
import os
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from runner_rig import Rig, step

from backends import plan, runner

TELLS = """
import json, os, sys
said = [sys.argv[1:], os.getcwd(), dict(os.environ), sys.stdin.read()]
json.dump(said, open(os.environ["TO"], "w"))
"""

IGNORES = """
import os, signal, sys
for what in (1, 2, 3, 15):
    signal.signal(what, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, [2, 15])
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_steps_run_in_order_and_succeed(rig: Rig) -> None:
    append = "open('order', 'a').write(__import__('sys').argv[1])"
    rig.plan(step(append, "1", name="first"), step(append, "2", name="second"))
    state = rig.run()
    assert state["phase"] == "succeeded"
    assert state["exit_code"] == state["run exited"] == 0
    assert (rig.folder / "order").read_text() == "12"
    assert [row["phase"] for row in state["steps"]] == ["succeeded", "succeeded"]


def test_a_step_gets_its_arguments_directory_environment_and_input(rig: Rig) -> None:
    odd = ["", "a b", "'\"$(x)`", "-x", "new\nline", "ünï→", "\udcff"]
    (rig.folder / "sub dir").mkdir()
    (rig.folder / "in.txt").write_text("what is said\n")
    place = {"prefix": "--path=", "path": "inputs/ü x"}
    rig.env["FROM_OUTSIDE"] = "kept"
    rig.plan(
        step(
            TELLS,
            *odd,
            place,
            cwd="sub dir",
            env={"TO": {"prefix": "", "path": "told.json"}, "ODD": "é\udcfe\n="},
            stdin="in.txt",
        )
    )
    assert rig.run()["phase"] == "succeeded"
    argv, cwd, env, said = json.loads((rig.folder / "told.json").read_bytes())
    assert argv == [*odd, f"--path={rig.folder}/inputs/ü x"]
    assert cwd == str(rig.folder / "sub dir")
    assert env["ODD"] == "é\udcfe\n="
    assert env["FROM_OUTSIDE"] == "kept"
    assert said == "what is said\n"


def test_odd_names_work_where_the_locale_is_ascii(rig: Rig) -> None:
    rig.env["LC_ALL"] = "C"
    (rig.folder / "sub ü").mkdir()
    tells = "import os,sys; open(b'bytes','wb').write(os.fsencode(sys.argv[1])+os.getcwdb())"
    rig.plan(step(tells, {"prefix": "é", "path": "ü"}, cwd="sub ü"))
    assert rig.run()["phase"] == "succeeded"
    here = os.fsencode(rig.folder)
    there = rig.folder / "sub ü" / "bytes"
    assert there.read_bytes() == "é".encode() + here + "/ü".encode() + here + "/sub ü".encode()


def test_without_a_file_standard_input_is_empty(rig: Rig) -> None:
    rig.plan(step("import sys; print(repr(sys.stdin.read()))"))
    rig.run()
    assert rig.texts() == ["''"]


def test_a_program_is_looked_up_on_the_path_of_its_step(rig: Rig) -> None:
    tool = rig.folder / "tools" / "mytool"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\necho from the tool\n")
    tool.chmod(0o755)
    env = {"PATH": {"prefix": "/nowhere:", "path": "tools"}}
    rig.plan({"name": "only", "argv": ["mytool"], "env": env})
    assert rig.run()["phase"] == "succeeded"
    assert rig.texts() == ["from the tool"]


@pytest.mark.parametrize(
    ("code", "expected", "words"),
    [
        ("import sys; sys.exit(3)", 3, "exited with code 3"),
        ("import os; os.kill(os.getpid(), 9)", 137, "was killed by SIGKILL"),
    ],
)
def test_a_step_that_fails_ends_the_run(rig: Rig, code: str, expected: int, words: str) -> None:
    rig.plan(step(code, name="bad"), step("open('later', 'w')", name="later"))
    state = rig.run()
    assert state["phase"] == "failed"
    assert state["exit_code"] == state["run exited"] == expected
    assert words in state["reason"]
    assert [row["phase"] for row in state["steps"]] == ["failed", "waiting"]
    assert not (rig.folder / "later").exists()


def test_a_program_that_is_not_there(rig: Rig) -> None:
    rig.plan({"name": "only", "argv": ["no such program"]})
    state = rig.run()
    assert (state["phase"], state["exit_code"]) == ("failed", 127)
    assert "no such program" in state["reason"]


def test_a_program_that_cannot_be_run(rig: Rig) -> None:
    (rig.folder / "text").write_text("no program")
    rig.plan({"name": "only", "argv": [{"prefix": "", "path": "text"}]})
    assert rig.run()["exit_code"] == 126


def test_an_argument_with_a_null_byte_fails_the_step_only(rig: Rig) -> None:
    rig.plan(step("", "nul\0"))
    state = rig.run()
    assert (state["phase"], state["exit_code"]) == ("failed", 126)


def test_a_step_is_passed_over_when_its_file_is_there(rig: Rig) -> None:
    write = "open('done', 'a').write('x')"
    rig.plan(step(write, skip_if="done"), step(write, name="again", skip_if="done"))
    state = rig.run()
    assert state["phase"] == "succeeded"
    assert [row["phase"] for row in state["steps"]] == ["succeeded", "skipped"]
    assert (rig.folder / "done").read_text() == "x"


def test_signals_ignored_where_the_runner_is_started_are_not_ignored_in_steps(rig: Rig) -> None:
    tells = (
        "import signal; print([signal.getsignal(2), *[int(signal.getsignal(s)) for s in (1, 15)]])"
    )
    rig.plan(step(tells))
    done = os.spawnve(
        os.P_WAIT, sys.executable, [sys.executable, "-c", IGNORES, *rig.argv("start")], rig.env
    )
    assert done == 0
    rig.until_ended()
    assert rig.texts() == ["[<built-in function default_int_handler>, 0, 0]"]


@pytest.mark.parametrize(
    "broken",
    [
        "no json",
        "[]",
        '{"schema": 2, "steps": []}',
        '{"schema": 1}',
        '{"schema": 1, "steps": [{"name": "../x", "argv": ["a"]}]}',
        '{"schema": 1, "steps": [{"name": "x", "argv": []}]}',
        '{"schema": 1, "steps": [{"name": "x", "argv": [1]}]}',
        '{"schema": 1, "steps": [{"name": "x", "argv": ["a"], "timeout_s": -1}]}',
        '{"schema": 1, "steps": [{"name": "x", "argv": ["a"], "timeout_s": NaN}]}',
        '{"schema": 1, "steps": [{"name": "x", "argv": ["a"]}, {"name": "x", "argv": ["a"]}]}',
        '{"schema": 1, "steps": [], "metrics": ["(?P<broken"]}',
        '{"schema": 1, "steps": [], "metrics": ["(?P<seq>1)"]}',
        '{"schema": 1, "steps": [], "outputs": "output/**"}',
    ],
)
def test_a_plan_that_is_none_is_told_in_one_sentence(tmp_path: Path, broken: str) -> None:
    (tmp_path / "plan.json").write_text(broken)
    with pytest.raises(runner.PlanError, match=r"^plan\.json (cannot be read|is not a plan): .+"):
        runner.read_plan(str(tmp_path))


def test_what_the_launcher_writes_is_a_plan(tmp_path: Path) -> None:
    made = plan.Plan(
        steps=(
            plan.Step("a", ("x", plan.RunPath("y", "z=")), timeout=timedelta(minutes=1)),
            plan.Step("b", ("x",), env={"E": "1"}, stdin="i", skip_if="s", cwd="c"),
        ),
        stop=plan.StopRecipe(touch=("t",), steps=("a",)),
        checkpoint=plan.CheckpointRule("o/c-*", (("a", "b"), ("c",))),
        metrics=(plan.MetricPattern("(?P<loss>x)"),),
    )
    written = plan.document(made, job="demo", outputs=("o/**",), deadline=timedelta(hours=1))
    (tmp_path / "plan.json").write_text(json.dumps(written))
    read = runner.read_plan(str(tmp_path))
    assert (read.job, read.deadline_s, read.outputs) == ("demo", 3600.0, ("o/**",))
    assert read.steps[0].argv == ("x", f"z={tmp_path}/y")
    assert read.steps[0].timeout_s == 60.0
    assert read.steps[1].skip_if == str(tmp_path / "s")
    assert read.stop.touch == (str(tmp_path / "t"),)
    assert (read.stop.wait_s, read.stop.interrupt_s) == (600.0, 120.0)
    assert read.checkpoint == runner.Rule("o/c-*", (("a", "b"), ("c",)))
    assert read.reserve_bytes == made.disk_reserve_bytes


def test_a_plan_that_is_none_fails_the_run_with_70(rig: Rig) -> None:
    (rig.folder / "plan.json").write_text("no json")
    state = rig.run()
    assert (state["phase"], state["exit_code"], state["run exited"]) == ("failed", 70, 70)
    assert state["reason"].startswith("plan.json cannot be read")
    assert rig.manifest().files == ()


def test_without_a_plan_or_a_directory_nothing_is_started(rig: Rig) -> None:
    for command in ("start", "run"):
        done = rig.command(command)
        assert done.code == 2
        assert b"plan.json" in done.err
        assert b"Traceback" not in done.err
    assert list(rig.folder.iterdir()) == []
    rig.folder /= "nowhere"
    for command in ("start", "status", "stop"):
        assert rig.command(command).code == 2


def test_a_bug_of_the_runner_ends_the_run_with_70_and_the_step_with_it(rig: Rig) -> None:
    driver = (
        "import sys; sys.path.insert(0, sys.argv[1]); import runner\n"
        "def bug(self, now): raise RuntimeError('a bug')\n"
        "runner.Supervisor.beat = bug\n"
        "sys.exit(runner.main(['run', '--', sys.argv[2]]))"
    )
    rig.plan(step("import time; time.sleep(1000)"))
    home = str(Path(rig.argv("run")[1]).parent)
    argv = [rig.python, "-c", driver, home, str(rig.folder)]
    assert os.spawnve(os.P_WAIT, rig.python, argv, rig.env) == 70
    state = rig.ask("status")
    assert (state["phase"], state["exit_code"], state["alive"]) == ("failed", 70, False)
    assert "RuntimeError: a bug" in state["reason"]
    assert "Traceback" in (rig.folder / "runner.err").read_text()
    assert rig.manifest().verdict == "failed"
