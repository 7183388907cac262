"""Jobs at the far end: started, looked at, asked, ended, removed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

from far_rig import Far, mode, until

from backends import runner
from backends.ssh import programs

FOREVER = "import time\nprint('it runs', flush=True)\nwhile True: time.sleep(60)"
DEAF = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + FOREVER
SHOW = "import os\nfor name in sorted(os.environ): print(name + '=' + os.environ[name], flush=True)"
RUNNER = Path(runner.__file__).read_bytes()
SECRET = "canary-77e0"


def running(far: Far, job: str = "job") -> None:
    until("its step", lambda: "it runs" in far.log(job))


def test_a_job_is_started_seen_and_over(far: Far) -> None:
    far.laid("print('hello')")
    assert far.start()["state"]["alive"] is True
    assert far.until_ended()["phase"] == "succeeded"
    seen = far.status()
    assert (seen["state"]["phase"], seen["alive"], seen["leftover"]) == ("succeeded", False, False)
    assert "hello" in far.log()


def test_what_was_never_laid_or_started_is_said_to_be_so(far: Far) -> None:
    assert far.status("none")["there"] is False
    far.laid("pass")
    seen = far.status()
    assert (seen["there"], seen["state"], seen["alive"]) == (True, None, False)
    assert far.start("none") == {"absent": True}


def test_started_again_it_is_left_alone_running_or_ended(far: Far) -> None:
    far.laid(FOREVER)
    first = far.start()["state"]
    running(far)
    assert far.start()["state"]["pid"] == first["pid"]
    assert far.ask("place", "end")["alive"] is False
    assert far.start()["state"]["phase"] == "stopped"
    assert far.log().count("it runs") == 1


def test_what_does_not_start_is_told_in_the_runner_s_words(far: Far) -> None:
    home = far.laid("pass")
    (home / "plan.json").unlink()
    assert "plan.json" in far.start()["refused"]


def test_the_job_gets_the_machine_s_variables_then_what_it_was_given(far: Far) -> None:
    far.env |= {"FROM_IMAGE": "machine", "BOTH": "machine", "SSH_CONNECTION": "x", "ODD": "a\nb"}
    far.env |= {"HF_TOKEN": "theirs", "PYTHONPATH": "/image/code"}
    far.laid(SHOW)
    far.start(env={"BOTH": "job", "EMPTY": "", "API_KEY": SECRET, "BYTES": "\udcff"})
    far.until_ended()
    said = [line.split(" ", 2)[2] for line in far.log().splitlines()]
    for line in ("FROM_IMAGE=machine", "BOTH=job", "EMPTY=", f"API_KEY={SECRET}", "ODD=a", "b"):
        assert line in said, line
    assert any(line.startswith("BYTES=") for line in said)
    assert "PYTHONPATH=/image/code" in said
    assert not any(line.startswith(("SSH_", "HF_TOKEN", "SHLVL")) for line in said)


def test_what_the_machine_gave_is_noted_by_name_only(far: Far) -> None:
    far.env |= {"FROM_IMAGE": "canary-value", "SOME_TOKEN": "canary-token"}
    home = far.laid("pass")
    far.start(env={"API_KEY": SECRET})
    far.until_ended()
    note = json.loads((home / "place.json").read_text())
    assert {"FROM_IMAGE", "PATH"} <= set(note["variables"])
    assert "SOME_TOKEN" in note["withheld"]
    assert note["software"] == "its own"
    assert mode(home / "place.json") == 0o600
    held = [path for path in far.root.rglob("*") if path.is_file()]
    assert [path.name for path in held if b"canary" in path.read_bytes()] == []


def test_a_python_of_its_own_is_not_reached_into(far: Far) -> None:
    far.env |= {"PYTHONPATH": "/image/code", "CONDA_PREFIX": "/opt/conda"}
    far.laid(SHOW)
    far.start(env={"VIRTUAL_ENV": "/somewhere"})
    far.until_ended()
    assert "/image/code" not in far.log()
    assert "CONDA_PREFIX" not in far.log()


def test_a_secret_is_in_the_job_s_environment_only(far: Far) -> None:
    far.laid(FOREVER)
    far.start(env={"API_KEY": SECRET})
    running(far)
    holders = 0
    for path in Path("/proc").glob("[0-9]*"):
        try:
            assert SECRET.encode() not in (path / "cmdline").read_bytes()
            holders += SECRET.encode() in (path / "environ").read_bytes()
        except OSError:
            continue
    assert holders == 2  # the runner and its step
    for path in far.root.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes()


def test_a_stop_and_a_checkpoint_reach_the_job(far: Far) -> None:
    home = far.laid(FOREVER, stop={"touch": ["output/please"], "steps": ["only"], "wait_s": 60})
    far.start()
    running(far)
    far.ask("place", "checkpoint")
    until("the request", (home / "output/please").exists)
    assert far.status()["alive"] is True
    far.ask("place", "stop", grace_s=0.0)
    assert far.until_ended()["phase"] == "stopped"
    assert far.ask("place", "stop", grace_s=0.0) == {}
    assert far.ask("place", "checkpoint") == {}
    assert far.ask("place", "stop", "none", grace_s=0.0) == {}


def test_the_end_is_an_end_also_of_what_does_not_listen(far: Far) -> None:
    far.laid(DEAF)
    far.start()
    running(far)
    seen = far.ask("place", "end")
    assert (seen["alive"], seen["leftover"], seen["state"]["phase"]) == (False, False, "stopped")
    assert far.ask("place", "end")["state"]["phase"] == "stopped"
    assert far.ask("place", "end", "none")["state"] is None


def test_a_step_whose_runner_was_killed_is_seen_and_ended(far: Far) -> None:
    far.laid(DEAF)
    pid = far.start()["state"]["pid"]
    running(far)
    os.kill(pid, signal.SIGKILL)
    until("its death", lambda: not far.status()["alive"])
    seen = far.status()
    assert (seen["state"]["phase"], seen["leftover"]) == ("lost", True)
    assert far.ask("place", "remove") == {"lives": True}
    seen = far.ask("place", "end")
    assert (seen["alive"], seen["leftover"]) == (False, False)


def test_a_runner_that_is_suspended_is_killed_with_its_step(far: Far) -> None:
    far.laid(FOREVER)
    state = far.start()["state"]
    running(far)
    os.kill(state["pid"], signal.SIGSTOP)
    seen = far.ask("place", "end", quiet_s=0.2)
    assert (seen["alive"], seen["leftover"]) == (False, False)


def test_a_job_that_removed_its_own_runner_is_still_judged_and_ended(far: Far) -> None:
    home = far.laid(FOREVER)
    far.start()
    running(far)
    (home / "runner.py").unlink()
    assert far.status() == {"needs": "runner"}
    spare = RUNNER.decode()
    assert far.ask("place", "status", runner=spare)["alive"] is True
    assert far.ask("place", "end", runner=spare)["alive"] is False


def test_all_run_directories_are_told_and_one_that_is_odd_hides_no_other(far: Far) -> None:
    far.laid(FOREVER, "living")
    far.laid("pass", "over")
    far.laid("pass", "fresh")
    odd = far.laid("pass", "odd")
    (odd / "runner.py").write_text("this is no Python")
    far.home("empty").mkdir()
    far.home(".begun").mkdir()
    far.start("living")
    far.start("over")
    far.until_ended("over")
    running(far, "living")
    found = far.ask("place", "jobs")["jobs"]
    assert {name: run["phase"] for name, run in found.items()} == {
        "living": "running",
        "over": "succeeded",
        "fresh": "absent",
        "odd": "unknown",
        "empty": "absent",
    }
    assert [name for name, run in found.items() if run["alive"]] == ["living"]
    (odd / "runner.py").write_bytes(RUNNER)
    assert far.status("over")["jobs"] == {**found, "odd": found["fresh"]}


def test_no_trace_is_left_in_a_run_directory_by_looking(far: Far) -> None:
    home = far.laid("pass")
    far.start()
    far.until_ended()
    before = sorted(home.rglob("*"))
    far.status()
    assert sorted(home.rglob("*")) == before


def test_removed_it_is_gone_also_where_the_job_took_its_own_rights_away(far: Far) -> None:
    home = far.laid("import os\nos.makedirs('output/x')\nopen('output/x/y', 'w').close()")
    far.start()
    far.until_ended()
    (home / "output/x").chmod(0)
    begun = far.root / "runs" / ".begun"
    begun.mkdir()
    assert far.ask("place", "remove", begun=str(begun)) == {}
    assert far.ask("place", "remove", begun=str(begun)) == {}
    assert list((far.root / "runs").iterdir()) == []
    assert list((far.root / "trash").iterdir()) == []


def test_each_request_tells_the_watchdog_that_somebody_is_there(far: Far) -> None:
    seen = far.root / "watch" / "seen"
    far.ask("place", "touch")
    assert not seen.exists()
    seen.parent.mkdir(parents=True)
    seen.touch()
    for program, command in (("place", "touch"), ("place", "jobs"), ("filling", "look")):
        os.utime(seen, (1, 1))
        far.ask(program, command, cache_root=str(far.root), keys=[])
        assert seen.stat().st_mtime > 1, command


def test_a_program_that_was_cut_short_does_nothing(far: Far) -> None:
    sent = programs.sent("place", far.request())[:1000]
    argv = programs.argv(far.python, "place", "touch")
    done = subprocess.run(argv, input=sent, capture_output=True, check=False, timeout=60)
    assert done.returncode != 0
    assert b"cut short" in done.stderr


def test_what_the_machine_does_not_allow_is_an_error_in_its_words(far: Far) -> None:
    home = far.laid("pass")
    (home / "place.json").mkdir()
    assert "Is a directory" in far.start()["error"]
