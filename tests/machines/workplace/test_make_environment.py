"""A job's own software, made on its machine from a lock, once for all jobs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from far_rig import LONGEST_S, until
from uv import find_uv_bin
from wheels import Wheels

PROGRAM = Path(__file__).parents[3] / "backends" / "ssh" / "make_environment.py"
SLOW = "import os\nopen(os.environ['HERE'], 'w').close()\nopen(os.environ['GO_ON']).read()\n"
"""A module that says that it is imported, and goes on when it may."""


@dataclass
class Machine:
    """A machine without a network, with the wheels that pip is configured with."""

    python: str
    root: Path
    wheels: Wheels
    env: dict[str, str] = field(default_factory=dict)

    @property
    def prefix(self) -> Path:
        return self.root / "envs" / "one"

    def argv(self, lock: str, *more: str) -> list[str]:
        self.root.mkdir(parents=True, exist_ok=True)
        path = self.root / "lock.txt"
        path.write_text(lock)
        version = f"--python={sys.version_info[0]}.{sys.version_info[1]}"
        tools = str(self.root / "tools")
        return [self.python, "-I", str(PROGRAM), str(path), str(self.prefix), tools, version, *more]

    def popen(self, lock: str, *more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.argv(lock, *more),
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def make(self, lock: str, *more: str) -> tuple[int, str]:
        """Its exit code and all that it said."""
        process = self.popen(lock, *more)
        said, _ = process.communicate(timeout=LONGEST_S)
        return process.returncode, said

    def imported(self, code: str) -> str:
        done = subprocess.run(
            [str(self.prefix / "bin" / "python"), "-c", code],
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    wheels = Wheels(tmp_path / "wheel house")
    wheels.folder.mkdir()
    index = (wheels.folder / "simple").as_uri()
    config = tmp_path / "pip.conf"
    config.write_text(f"[global]\nindex-url = {index}\n")
    # The Python that the environment is made from must be found without a fetch.
    path = [str(Path(find_uv_bin()).parent), str(Path(sys._base_executable).parent)]  # type: ignore[attr-defined]
    env = {
        "PATH": os.pathsep.join([*path, "/usr/bin", "/bin"]),
        "HOME": str(tmp_path / "home"),
        "PIP_CONFIG_FILE": str(config),
        "UV_PYTHON_DOWNLOADS": "never",
        "HERE": str(tmp_path / "here"),
        "GO_ON": str(tmp_path / "go on"),
    }
    os.mkfifo(env["GO_ON"])
    return Machine(sys.executable, tmp_path / "root", wheels, env)


def go_on(machine: Machine) -> threading.Thread:
    """Let every import of a slow module go on, as long as one waits."""

    def write() -> None:
        Path(machine.env["GO_ON"]).write_text("go on")

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    return thread


def test_it_is_made_of_the_lock_and_its_imports_are_tried(machine: Machine) -> None:
    lock = machine.wheels.add("first", "1.0", "value = 1") + machine.wheels.add("second", "2.0")
    machine.wheels.add("first", "1.1", "value = 2")
    code, said = machine.make(f"# a comment\n{lock}", "--import=first", "--import=second")
    assert code == 0, said
    assert machine.imported("import first; print(first.value)") == "1"
    assert "made in" in said
    assert "2 packages" in said


def test_it_is_made_once(machine: Machine) -> None:
    lock = machine.wheels.add("first", "1.0")
    assert machine.make(lock)[0] == 0
    marker = machine.prefix / "ftlaunch.json"
    before = marker.stat()
    code, said = machine.make(lock)
    assert (code, marker.stat().st_ino) == (0, before.st_ino)
    assert "there already" in said


def test_a_pin_without_a_hash_is_taken_as_it_is_named(machine: Machine) -> None:
    plain = machine.wheels.add("first", "1.0", "value = 'plain'").partition(" ")[0]
    machine.wheels.add("first", "1.0+local", "value = 'local'")
    hashed = machine.wheels.add("second", "1.0", "value = 'plain'")
    machine.wheels.add("second", "1.0+local", "value = 'local'")
    code, said = machine.make(f"{plain}\n{hashed}")
    assert code == 0, said
    assert machine.imported("import first, second; print(first.value, second.value)") == (
        "plain plain"
    )


def test_a_package_that_is_not_what_was_locked_is_not_installed(machine: Machine) -> None:
    lock = machine.wheels.add("first", "1.0", "value = 1")
    machine.wheels.add("first", "1.0", "value = 'other'")
    code, said = machine.make(lock)
    assert code == 1
    assert "environment: it was not made" in said
    assert not machine.prefix.exists()


def test_find_links_and_other_indexes_of_pip_are_heeded(machine: Machine) -> None:
    here, there = Wheels(machine.root / "a"), Wheels(machine.root / "b")
    lock = here.add("first", "1.0") + there.add("second", "1.0")
    machine.env["PIP_FIND_LINKS"] = str(here.folder)
    machine.env["PIP_EXTRA_INDEX_URL"] = (there.folder / "simple").as_uri()
    code, said = machine.make(lock, "--import=first", "--import=second")
    assert code == 0, said


def test_an_import_that_fails_is_named_and_leaves_nothing(machine: Machine) -> None:
    lock = machine.wheels.add("first", "1.0", "print('noise')\nraise OSError('no driver')")
    code, said = machine.make(lock, "--import=first")
    assert code == 1
    assert "environment: first does not import: OSError: no driver" in said
    assert not machine.prefix.exists()


def test_a_module_that_ends_its_python_is_a_failure_too(machine: Machine) -> None:
    lock = machine.wheels.add("first", "1.0", "import os\nos._exit(3)")
    code, said = machine.make(lock, "--import=first")
    assert code == 1
    assert "ended with code 3" in said


def test_of_two_at_once_one_makes_it_and_the_other_waits(machine: Machine) -> None:
    lock = machine.wheels.add("first", "1.0", SLOW)
    one = machine.popen(lock, "--import=first")
    until("the import", Path(machine.env["HERE"]).exists)
    two = machine.popen(lock, "--import=first")
    assert two.stdout is not None
    assert "another job makes this environment; waiting" in two.stdout.readline()
    thread = go_on(machine)
    said = [process.communicate(timeout=LONGEST_S)[0] for process in (one, two)]
    thread.join()
    assert (one.returncode, two.returncode) == (0, 0), said
    assert "made in" in said[0]
    assert "there already" in said[1]


def test_a_stop_leaves_no_half_of_it(machine: Machine) -> None:
    lock = machine.wheels.add("first", "1.0", SLOW)
    process = machine.popen(lock, "--import=first")
    until("the import", Path(machine.env["HERE"]).exists)
    os.killpg(process.pid, signal.SIGTERM)
    process.communicate(timeout=LONGEST_S)
    assert process.returncode == 128 + signal.SIGTERM
    assert not machine.prefix.exists()


def test_one_that_was_killed_half_way_is_made_anew(machine: Machine) -> None:
    lock = machine.wheels.add("first", "1.0", SLOW)
    process = machine.popen(lock, "--import=first")
    until("the import", Path(machine.env["HERE"]).exists)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=LONGEST_S)
    assert machine.prefix.exists()
    (machine.prefix / "old").touch()
    thread = go_on(machine)
    code, said = machine.make(lock, "--import=first")
    thread.join()
    assert code == 0, said
    assert not (machine.prefix / "old").exists()


def test_what_a_killed_maker_started_is_waited_for(machine: Machine) -> None:
    lock = machine.wheels.add("first", "1.0", SLOW)
    process = machine.popen(lock, "--import=first")
    until("the import", Path(machine.env["HERE"]).exists)
    os.kill(process.pid, signal.SIGKILL)  # the import goes on
    two = machine.popen(lock)
    assert two.stdout is not None
    assert "waiting" in two.stdout.readline()
    thread = go_on(machine)
    process.communicate(timeout=LONGEST_S)
    said, _ = two.communicate(timeout=LONGEST_S)
    thread.join()
    assert two.returncode == 0, said


def test_one_whose_python_is_gone_is_made_anew(machine: Machine) -> None:
    lock = machine.wheels.add("first", "1.0")
    assert machine.make(lock)[0] == 0
    (machine.prefix / "bin" / "python").unlink()
    code, said = machine.make(lock)
    assert code == 0, said
    assert machine.imported("import first; print('well')") == "well"


def test_without_uv_it_is_fetched_with_pip_once(machine: Machine) -> None:
    uv, *rest = machine.env["PATH"].split(os.pathsep)
    machine.env["PATH"] = os.pathsep.join(rest)
    script = f'#!/bin/sh\nexec "{uv}/uv" "$@"\n'
    machine.wheels.add("uv", "0.9.0", script=script)
    lock = machine.wheels.add("first", "1.0")
    code, said = machine.make(lock, "--import=first")
    assert code == 0, said
    assert said.count("fetching uv") == 1
    made = machine.prefix / "ftlaunch.json"
    made.unlink()
    code, said = machine.make(lock)
    assert code == 0, said
    assert "fetching uv" not in said


def test_without_uv_and_without_a_way_to_it_the_log_says_so(machine: Machine) -> None:
    machine.env["PATH"] = os.pathsep.join(machine.env["PATH"].split(os.pathsep)[1:])
    code, said = machine.make(machine.wheels.add("first", "1.0"))
    assert code == 1
    assert "environment: uv was not made" in said
    assert not machine.prefix.exists()


def test_a_lock_that_is_not_there_is_one_sentence(machine: Machine) -> None:
    argv = machine.argv("")
    (machine.root / "lock.txt").unlink()
    done = subprocess.run(argv, env=machine.env, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "lock.txt" in done.stdout
    assert done.stderr == ""
