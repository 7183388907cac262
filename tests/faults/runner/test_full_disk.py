"""The disk fills up: lines may be lost, and are counted; the run, its verdict and manifest are not.

A small tmpfs is the disk; mounting one needs root. Where that is not allowed the run's end says so.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from runner_rig import Rig, step

pytestmark = pytest.mark.faults

FILLS = """
import os, sys, time
os.makedirs("output")
full = 0
with open("output/big", "wb", buffering=0) as file:
    while not full:
        try:
            file.write(bytes(65536))
        except OSError:
            full = 1
    with open("full", "w"):
        pass
    for n in range(int(sys.argv[1])):
        print("line", n, "x" * 200, flush=True)
    if "free" in sys.argv:
        file.truncate(0)
        for n in range(int(sys.argv[1]), 2 * int(sys.argv[1])):
            print("line", n, "x" * 200, flush=True)
        while not os.path.exists("go"):
            time.sleep(0.01)
sys.exit(5)
"""


@pytest.fixture
def small(python: str, tmp_path: Path, missing: Callable[[str, str], NoReturn]) -> Iterator[Rig]:
    """A run directory on a disk of 8 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)]
    done = subprocess.run(mount, capture_output=True, check=False)
    if done.returncode:
        missing("a small disk", f"mount: {done.stderr.decode().strip()}")
    rig = Rig(python, disk / "run")
    try:
        yield rig
        rig.command("stop", "--now")
        rig.until_ended()
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def test_the_verdict_and_the_manifest_are_written_on_a_full_disk(small: Rig) -> None:
    small.plan(step(FILLS, "5000"), disk_reserve_bytes=1 << 20)
    state = small.run()
    assert (state["phase"], state["exit_code"], state["run exited"]) == ("failed", 5, 5)
    assert state["log_lines"] == 5000
    texts = small.texts()
    assert state["log_lines_lost"] == 5000 - len(texts) > 0
    numbers = [line.seq for line in small.lines()]
    assert numbers == sorted(set(numbers)), "a gap is allowed, a double is not"
    listed = {str(file.path): file.size_bytes for file in small.manifest().files}
    assert listed == {"output/big": (small.folder / "output" / "big").stat().st_size}
    assert not (small.folder / ".reserve").exists()


def test_what_waited_is_written_when_there_is_room_again(small: Rig) -> None:
    small.plan(step(FILLS, "500", "free"), disk_reserve_bytes=1 << 20)
    small.ask("start")
    last = ["line 999 " + "x" * 200]
    small.until("the last line", lambda: small.texts(ended=False)[-1:] == last)
    assert [text.split()[1] for text in small.texts()] == [str(n) for n in range(1000)]
    small.until("the state", lambda: small.state()["log_lines"] == 1000)
    (small.folder / "go").touch()
    assert small.until_ended()["log_lines_lost"] == 0


def test_a_stop_is_obeyed_on_a_full_disk(small: Rig) -> None:
    waits = FILLS.replace("file.truncate(0)", "pass")
    small.plan(step(waits, "10", "free"), disk_reserve_bytes=1 << 20)
    small.ask("start")
    small.until_there("full")
    small.ask("stop", "--grace", "60")
    state = small.until_ended()
    assert state["phase"] == "stopped"
    assert small.manifest().verdict == "stopped"


def test_without_room_for_the_reserve_it_runs_and_says_so(small: Rig) -> None:
    small.plan(step("print('runs')"), disk_reserve_bytes=1 << 30)
    assert small.run()["phase"] == "succeeded"
    assert "no room for the disk reserve" in (small.folder / "runner.err").read_text()


def test_on_a_disk_that_is_full_nothing_is_started(small: Rig) -> None:
    small.plan(step("print('runs')"))
    with pytest.raises(OSError, match="No space left"):
        fill(small.folder / "big")
    done = small.command("start")
    assert done.code == 75
    assert b"state.json cannot be written" in done.err
    (small.folder / "big").unlink()
    small.ask("start")
    assert small.until_ended()["phase"] == "succeeded"


def test_a_log_that_cannot_be_written_harms_nothing(rig: Rig) -> None:
    (rig.folder / "logs").write_text("no folder")
    (rig.folder / "metrics").write_text("no folder")
    rig.plan(step("for n in range(9000): print('loss=1', 'x' * 100)"), metrics=["=(?P<loss>1)"])
    state = rig.run()
    assert state["phase"] == "succeeded"
    assert state["log_lines"] == state["log_lines_lost"] == 9000
