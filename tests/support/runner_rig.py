"""A run directory, and the runner as a file of its own under the interpreters it promises."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import pytest

from backends import rundir, runner

RUNNER = Path(__file__).parents[2] / "backends" / "runner.py"
TRAINER = Path(__file__).with_name("fake_trainer.py")
LONGEST_S = 120.0
"""Only ends a test that is broken; no test waits for it otherwise."""

State = dict[str, Any]
T = TypeVar("T")


def find_interpreter(name: str) -> str | None:
    """The program of an interpreter that runs; None when there is none here."""
    if name == "this":
        return sys.executable
    home = Path.home()
    version = name.removeprefix("python")
    found = [
        os.environ.get(f"FTLAUNCH_{name.upper().replace('.', '')}"),
        shutil.which(name),
        *sorted(map(str, home.glob(f".pyenv/versions/{version}.*/bin/{name}"))),
        *sorted(map(str, home.glob(f".local/share/uv/python/cpython-{version}.*/bin/{name}"))),
    ]
    for program in found:
        if program and _runs(program):
            return program
    return None


def _runs(program: str) -> bool:
    try:
        return subprocess.run([program, "-c", ""], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def interpreters() -> tuple[str, ...]:
    """Those the runner is tested under; the quick checks take `this` alone.

    Debian's pypy3 is a Python 3.9, the oldest that is promised, and must be there. CPython 3.9
    itself is taken along where it is.
    """
    wanted = os.environ.get("FTLAUNCH_TEST_PYTHONS", "this pypy3 python3.9").split()
    return tuple(name for name in wanted if name != "python3.9" or find_interpreter(name))


def step(code: str, *arguments: Any, name: str = "only", **more: Any) -> State:
    """A step that runs a piece of Python (by the interpreter of the tests)."""
    return {"name": name, "argv": [sys.executable, "-c", code, *arguments], **more}


@dataclass(frozen=True)
class Ended:
    """How a command of the runner ended."""

    code: int
    out: bytes
    err: bytes


class Rig:
    """One run directory and the commands on it."""

    def __init__(self, python: str, folder: Path) -> None:
        self.python = python
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self.env = {
            "PATH": os.environ["PATH"],
            "FTLAUNCH_HEARTBEAT_S": "0.1",
            "FTLAUNCH_PROGRESS_S": "0",
        }

    def plan(self, *steps: State, **more: Any) -> Rig:
        """Write the plan; the steps may be left to defaults."""
        plan = {"schema": 1, "job": "demo", "outputs": ["output/**"], "steps": list(steps), **more}
        (self.folder / "plan.json").write_text(json.dumps(plan))
        return self

    def argv(self, command: str, *options: str) -> list[str]:
        """The command line of a command on this directory."""
        return [self.python, str(RUNNER), command, *options, "--", str(self.folder)]

    def command(self, command: str, *options: str) -> Ended:
        """Do one command to its end."""
        done = subprocess.run(
            self.argv(command, *options),
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=LONGEST_S,
            check=False,
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    def ask(self, command: str, *options: str) -> State:
        """Do one command that must succeed, and take its line of JSON."""
        done = self.command(command, *options)
        assert done.code == 0, done
        assert done.out.count(b"\n") == 1, done
        found = json.loads(done.out)
        assert isinstance(found, dict)
        return found

    def run(self, *options: str) -> State:
        """Run it in the foreground to its end; the state it left."""
        done = self.command("run", *options)
        assert (self.folder / "state.json").exists(), done
        state = self.state()
        return {**state, "run exited": done.code}

    def popen(self, *options: str, **more: Any) -> subprocess.Popen[bytes]:
        """Run it in the foreground, and go on here."""
        return subprocess.Popen(
            self.argv("run", *options),
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=more.pop("stdout", subprocess.DEVNULL),
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            **more,
        )

    def state(self) -> State:
        """What `state.json` holds."""
        found = json.loads((self.folder / "state.json").read_bytes())
        assert isinstance(found, dict)
        return found

    def manifest(self) -> rundir.Manifest:
        """What `manifest.json` holds."""
        found = rundir.parse_manifest((self.folder / "manifest.json").read_bytes())
        assert found is not None
        return found

    def lines(self, name: str = "only", *, ended: bool = True) -> list[rundir.LogLine]:
        """The log of a step, all segments. While it runs, a last line may be half written."""
        found = []
        for path in sorted((self.folder / "logs" / name).glob("*.log")):
            content = path.read_bytes()
            assert content.endswith(b"\n") or not ended
            assert len(content) <= 1 << 20
            for raw in content.split(b"\n")[:-1]:
                line = rundir.parse_line(raw)
                if line is not None:
                    found.append(line)
        return found

    def texts(self, name: str = "only", *, ended: bool = True) -> list[str]:
        """What a step's log says, without what the runner itself adds."""
        said = (line.text for line in self.lines(name, ended=ended))
        return [text for text in said if not text.startswith("[runner] ")]

    def metrics(self) -> list[State]:
        """Every row of the metrics."""
        rows = []
        for path in sorted((self.folder / "metrics").glob("*.jsonl")):
            lines = path.read_bytes().splitlines()
            rows += [json.loads(raw, parse_constant=_no_json) for raw in lines]
        return rows

    def until(self, what: str, look: Callable[[], T | None]) -> T:
        """Wait for something that must come."""
        end = time.monotonic() + LONGEST_S
        while time.monotonic() < end:
            found = look()
            if found:
                return found
            time.sleep(0.01)
        raise AssertionError(f"never came: {what}; {self.ask('status')}")

    def until_ended(self) -> State:
        """Wait for the verdict and for the runner to be gone."""

        def ended() -> State | None:
            now = runner.status(str(self.folder))
            return None if now["alive"] else now

        return self.until("the end of the run", ended)

    def until_there(self, path: str) -> Path:
        """Wait for a file to appear."""
        there = self.folder / path
        self.until(path, lambda: there.exists() or None)
        return there


def _no_json(word: str) -> NoReturn:
    raise AssertionError(f"{word} is not JSON")


def is_alive(pid: int) -> bool:
    """Whether a process is there and not only waiting to be reaped."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def check_numbers(lines: Sequence[rundir.LogLine]) -> None:
    """No gap and no double."""
    numbers = [line.seq for line in lines]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


@pytest.fixture(params=interpreters())
def python(request: pytest.FixtureRequest, missing: Callable[[str, str], NoReturn]) -> str:
    """Each interpreter the runner promises to run under."""
    found = find_interpreter(request.param)
    if found is None:
        missing(request.param, "the runner is not tested under it; apt-get or pyenv has it")
    return found


@pytest.fixture
def rig(python: str, tmp_path: Path) -> Iterator[Rig]:
    """A run directory with an awkward name; whatever still runs in it is ended afterwards."""
    made = Rig(python, tmp_path / "a 'run' \"ä\n$x")
    yield made
    left = runner.status(str(made.folder))
    if left["alive"] or left["phase"] == "lost":
        made.command("stop", "--now")
        made.until_ended()
