"""Runs one program and answers for all that comes of it: run as a file, by the tests.

    python keeper.py PROGRAM ARGUMENT...

It reads its standard input: `cut` kills all descendants but the program itself, whatever session
they moved to; the end of the input (the test process is gone, however it ended) kills them all. A
daemon that lets go of its parent becomes the keeper's child, on Linux. Elsewhere only the program
and its group are ended.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

_SET_CHILD_SUBREAPER = 36  # from linux/prctl.h


def main() -> None:
    """Keep the program until the input ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    program = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, start_new_session=True)
    for line in sys.stdin:
        if line.strip() == "cut":
            end(all_but=program.pid)
            print("done", flush=True)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(program.pid, signal.SIGKILL)
    end()


def end(*, all_but: int = 0) -> None:
    """Kill descendants until none is left: one may be forking right now."""
    while living := [pid for pid in descendants(os.getpid()) if pid != all_but]:
        for pid in living:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        reap(all_but)
        time.sleep(0.005)
    reap(all_but)


def reap(all_but: int) -> None:
    """Take the exit codes of dead children, so that they are gone."""
    for pid in list(children().get(os.getpid(), ())):
        if pid != all_but:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def descendants(root: int) -> Iterator[int]:
    """Every process below `root`."""
    known = children()
    todo = [root]
    while todo:
        below = known.get(todo.pop(), [])
        yield from below
        todo += below


def children() -> dict[int, list[int]]:
    """Parent to children, of the whole machine."""
    found: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            found.setdefault(int(fields[1]), []).append(int(entry.name))
    return found


if __name__ == "__main__":
    main()
