"""Two processes at once, and a kill half-way, with real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from shelf import NOTED, Shelf, spec

from launcher import environment

ENSURE = """
import sys
from pathlib import Path
from shelf import spec
from launcher import environment
def told(what, *, done=None, total=None):
    print(what, flush=True)
wanted = spec(Path(sys.argv[1]), sys.argv[2], python=sys.argv[3])
environment.ensure(wanted, progress=told)
print("made", flush=True)
"""

Start = Callable[[Path, str], "subprocess.Popen[str]"]


@pytest.fixture
def start(python311: str, tmp_path: Path) -> Iterator[Start]:
    """Start a process that makes the environment; what it prints goes to a pipe."""
    started: list[subprocess.Popen[str]] = []
    roots = [str(Path(__file__).parents[2] / "support"), str(Path(__file__).parents[3])]

    def begin(lock: Path, module: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", ENSURE, str(lock), module, python311],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(roots)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()


def until(happened: Callable[[], bool]) -> None:
    """Wait for something; the test's own time-out is the only limit."""
    while not happened():
        time.sleep(0.02)


def line_with(process: subprocess.Popen[str], text: str) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if text in line:
            return line
    raise AssertionError(f"the process ended without saying {text!r}")


def test_two_at_once_make_one(shelf: Shelf, start: Start) -> None:
    gate = shelf.gate("import")
    lock = shelf.lock(shelf.wheel("tinydep", code=NOTED))
    first = start(lock, "tinydep")
    until(lambda: shelf.imports() == 1)
    second = start(lock, "tinydep")
    line_with(second, "waiting for another ftlaunch")
    gate.unlink()
    line_with(first, "made")
    line_with(second, "made")
    assert shelf.imports() == 1


def test_killed_before_the_stamp_it_is_made_anew(
    shelf: Shelf, start: Start, python311: str
) -> None:
    gate = shelf.gate("import")
    lock = shelf.lock(shelf.wheel("tinydep", code=NOTED))
    wanted = spec(lock, "tinydep", python=python311)
    first = start(lock, "tinydep")
    until(lambda: shelf.imports() == 1)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert [item.state for item in environment.inspect()] == ["unfinished"]

    gate.unlink()
    prefix = environment.ensure(wanted)

    assert environment.healthy(prefix)
    assert shelf.imports() == 2


def test_killed_while_uv_works_nobody_begins_before_uv_has_ended(
    shelf: Shelf, start: Start
) -> None:
    gate = shelf.gate("build")
    lock = shelf.lock(shelf.slow_source())
    first = start(lock, "built")
    until((shelf.folder / "building.txt").exists)
    first.send_signal(signal.SIGKILL)
    first.wait()

    second = start(lock, "built")
    line_with(second, "waiting for another ftlaunch")
    assert [item.state for item in environment.inspect()] == ["unfinished"]
    gate.unlink()

    line_with(second, "made")
    assert [item.state for item in environment.inspect()] == ["ready"]


def test_an_interrupt_ends_uv_too(shelf: Shelf, start: Start) -> None:
    gate = shelf.gate("build")
    lock = shelf.lock(shelf.slow_source())
    first = start(lock, "built")
    until((shelf.folder / "building.txt").exists)
    first.send_signal(signal.SIGINT)
    first.wait()

    second = start(lock, "built")  # the gate is closed, but nobody holds the lock
    gate.unlink()
    line_with(second, "made")
