"""Who runs, who has ended, who is lost: the lock, the state, and starting once."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from runner_rig import Rig, check_numbers, is_alive, step

from backends import runner

WAITS = """
import os, time
open("began", "a").write("x")
while not os.path.exists("go"):
    time.sleep(0.01)
"""

OUTLIVES = """
import signal, time
signal.signal(signal.SIGPIPE, signal.SIG_IGN)
open("began", "w")
time.sleep(1000)
"""

FAILS_UNTIL_GO = """
import os, sys
print("attempt", os.environ["FTLAUNCH_ATTEMPT"])
sys.exit(not os.path.exists("go"))
"""


def test_start_returns_at_once_and_lets_go_of_everything(rig: Rig) -> None:
    rig.plan(step(WAITS))
    reading, writing = os.pipe()
    # Waits for the end of its output: that comes only when nobody holds it any more.
    done = subprocess.run(
        rig.argv("start"), env=rig.env, capture_output=True, pass_fds=(writing,), check=True
    )
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        assert file.read() == b""
    state = json.loads(done.stdout)
    assert state["alive"] is True
    assert state["phase"] in ("starting", "running")
    assert os.getsid(state["pid"]) != os.getsid(0)
    assert Path(f"/proc/{state['pid']}/fd/1").readlink() == Path(os.devnull)
    (rig.folder / "go").touch()
    assert rig.until_ended()["phase"] == "succeeded"


def test_a_living_run_and_an_ended_one_are_left_alone(rig: Rig) -> None:
    rig.plan(step(WAITS))
    first = rig.ask("start")
    assert rig.ask("start")["pid"] == first["pid"]
    assert rig.ask("start", "--attempt")["attempt"] == 1
    assert rig.command("run").code == 75
    (rig.folder / "go").touch()
    ended = rig.until_ended()
    assert rig.ask("start") == ended
    assert rig.command("run").code == 0
    assert rig.state()["version"] == ended["version"]
    assert (rig.folder / "began").read_text() == "x"


def test_of_many_that_start_at_once_one_wins(rig: Rig) -> None:
    rig.plan(step(WAITS))
    with ThreadPoolExecutor() as pool:
        started = list(pool.map(lambda _: rig.ask("start"), range(6)))
    (rig.folder / "go").touch()
    assert rig.until_ended()["phase"] == "succeeded"
    assert len({state["pid"] for state in started if "pid" in state}) == 1
    assert (rig.folder / "began").read_text() == "x"


def test_of_many_that_start_a_short_run_at_once_one_runs_it(rig: Rig) -> None:
    rig.plan(step("open('began', 'a').write('x')"))
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda _: rig.ask("start"), range(6)))
    assert rig.until_ended()["attempt"] == 1
    assert (rig.folder / "began").read_text() == "x"


def test_looking_does_not_keep_a_run_from_starting(rig: Rig) -> None:
    rig.plan(step(""))
    (rig.folder / "lock").touch()
    seen = {"absent", "starting", "running", "succeeded"}
    starting = subprocess.Popen(rig.argv("start"), env=rig.env, stdout=subprocess.DEVNULL)
    while starting.poll() is None:
        assert runner.status(str(rig.folder))["phase"] in seen
    assert starting.returncode == 0
    assert rig.until_ended()["phase"] == "succeeded"


def test_two_that_look_at_once_do_not_take_each_other_for_a_runner(rig: Rig) -> None:
    rig.plan(step(""))
    rig.run()
    with (rig.folder / "lock").open("rb") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        assert rig.ask("status")["alive"] is False


def test_before_the_start_a_run_is_absent(rig: Rig) -> None:
    assert rig.ask("status") == {"schema": 1, "phase": "absent", "alive": False}


def test_a_killed_runner_is_lost_though_its_step_lives(rig: Rig) -> None:
    rig.plan(step(OUTLIVES))
    running = rig.popen()
    rig.until_there("began")
    group = rig.until("its group", lambda: rig.state()["pgid"])
    running.kill()
    running.wait()
    state = rig.ask("status")
    assert (state["phase"], state["alive"]) == ("lost", False)
    assert state["reason"] == "the runner was killed; its step still runs"
    assert is_alive(group)
    assert rig.command("run").code == 75
    after = rig.ask("stop", "--grace", "30")
    assert (after["phase"], after["reason"]) == ("lost", "the runner was killed")
    assert not is_alive(group)


def test_a_reboot_is_seen(rig: Rig) -> None:
    state = {"schema": 1, "version": 1, "attempt": 1, "phase": "running", "boot_id": "another"}
    (rig.folder / "state.json").write_text(json.dumps(state))
    assert rig.ask("status")["reason"] == "the machine was rebooted, or is another one"


def test_a_process_that_only_has_the_same_id_is_never_hit(rig: Rig) -> None:
    rig.plan(step(""))
    rig.run()
    (rig.folder / "manifest.json").unlink()
    ended = rig.state()
    with subprocess.Popen(["sleep", "1000"], start_new_session=True) as stranger:
        for changes in ({"pgid_started": "1"}, {"boot_id": "another"}, {"pgid_started": None}):
            lost = {
                **ended,
                "phase": "running",
                "outcome": None,
                "pgid": stranger.pid,
                "pgid_started": runner.started_at(stranger.pid),
                **changes,
            }
            (rig.folder / "state.json").write_text(json.dumps(lost))
            assert rig.ask("stop", "--now")["phase"] == "lost"
            assert stranger.poll() is None
        real = {
            **lost,
            "pgid_started": runner.started_at(stranger.pid),
            "boot_id": runner.boot_id(),
        }
        (rig.folder / "state.json").write_text(json.dumps(real))
        rig.ask("stop", "--now")
        assert stranger.wait() == -signal.SIGKILL  # so the cases above could have hit it


def test_no_process_of_a_step_holds_the_lock(rig: Rig) -> None:
    code = (
        "import os; fds = [os.readlink('/proc/self/fd/' + n) for n in os.listdir('/proc/self/fd')"
        " if os.path.exists('/proc/self/fd/' + n)]; print(sorted(fds))"
    )
    rig.plan(step(code))
    rig.run()
    assert "lock" not in rig.texts()[0]
    assert rig.texts()[0].count("pipe:") == 2  # standard output and error, and nothing else


def test_the_version_only_grows_and_the_state_is_always_whole(rig: Rig) -> None:
    rig.env["FTLAUNCH_HEARTBEAT_S"] = "0.001"
    rig.plan(step("for n in range(20000): print(n, flush=True)"))
    rig.ask("start")
    versions = []
    while runner.status(str(rig.folder))["alive"]:
        versions.append(rig.state()["version"])
    assert versions == sorted(versions)
    assert rig.state()["phase"] == "succeeded"


def test_a_new_attempt_goes_on_in_the_same_directory(rig: Rig) -> None:
    rig.plan(step(FAILS_UNTIL_GO), metrics=["(?P<attempt>[0-9])"])
    first = rig.run()
    assert first["phase"] == "failed"
    (rig.folder / "go").touch()
    second = rig.run("--attempt")
    assert (second["phase"], second["attempt"]) == ("succeeded", 2)
    assert second["version"] > first["version"]
    assert second["elapsed_s"] > first["elapsed_s"]
    assert [path.name for path in sorted(rig.folder.glob("logs/only/*"))] == [
        "000001.log",
        "000002.log",
    ]
    assert rig.texts() == ["attempt 1", "attempt 2"]
    check_numbers(rig.lines())
    assert [row["attempt"] for row in rig.metrics()] == [1, 2]
    assert rig.manifest().verdict == "succeeded"


def test_a_new_attempt_of_a_lost_run_ends_the_old_step_first(rig: Rig) -> None:
    code = (
        "import os, signal, time\n"
        "signal.signal(signal.SIGPIPE, signal.SIG_IGN)\n"
        "if os.environ['FTLAUNCH_ATTEMPT'] == '1':\n"
        "    open('began', 'w').write('x'); time.sleep(1000)\n"
        "open('second', 'w')\n"
    )
    rig.plan(step(code))
    running = rig.popen()
    rig.until_there("began")
    group = rig.until("its group", lambda: rig.state()["pgid"])
    running.kill()
    running.wait()
    rig.ask("start", "--attempt")
    assert not is_alive(group)
    assert rig.until_ended()["phase"] == "succeeded"


def test_a_torn_last_line_is_mended_and_its_number_not_used_again(rig: Rig) -> None:
    rig.plan(step("print('x')"))
    rig.run()
    segment = rig.folder / "logs" / "only" / "000001.log"
    with segment.open("ab") as file:
        file.write(b"0000000002 2026-01-0")
    rig.run("--attempt")
    assert segment.read_bytes().endswith(b"\n")
    assert [line.seq for line in rig.lines()] == [1, 3]


def test_the_library_starts_a_run_too(rig: Rig) -> None:
    rig.plan(step("import os; print(os.environ['SECRET'])"))
    env = {**rig.env, "SECRET": "hush"}
    assert runner.start(str(rig.folder), env, python=rig.python)["alive"] in (True, False)
    assert rig.until_ended()["phase"] == "succeeded"
    assert rig.texts() == ["hush"]
    assert b"hush" not in (rig.folder / "state.json").read_bytes()
