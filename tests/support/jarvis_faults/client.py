"""Processes of the user's, made on demand: each is a fork of one that has imported everything.

A case needs several, and to start Python and import the SDK takes longer than what they do. A
client is a process of its own all the same: it can be killed, and takes nothing of the last one
with it but the imported modules.

    python -m jarvis_faults.client      orders come in by standard input, a line of JSON each

It answers `{"pid": N}` to an order, and `{"ended": N, "code": C}` when that process is over; C is
negative for a signal.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

_LOOK_S = 0.01
INTERRUPTED = 130


@dataclass
class Clients:
    """The process that makes clients, seen from the test."""

    environ: Mapping[str, str]
    _maker: subprocess.Popen[bytes] | None = None
    _codes: dict[int, int] = field(default_factory=dict)
    _heard: bytes = b""

    def __enter__(self) -> Self:
        self._maker = subprocess.Popen(
            [sys.executable, "-m", "jarvis_faults.client"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=dict(self.environ),
            cwd="/",
            start_new_session=True,
        )
        self._hear(60)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._maker is not None
        assert self._maker.stdin is not None
        assert self._maker.stdout is not None
        self._maker.stdin.close()
        self._maker.wait(30)
        self._maker.stdout.close()

    def start(self, do: list[str], *, environ: Mapping[str, str], log: Path, hooks: Any) -> int:
        """A client that does something; its pid.

        do     `["conduct", RUN_ID]`, or `["ftlaunch", WORD, …]`
        hooks  see `hooks.install`
        """
        assert self._maker is not None
        assert self._maker.stdin is not None
        order = {"do": do, "environ": dict(environ), "log": str(log), "hooks": hooks}
        self._maker.stdin.write(json.dumps(order).encode() + b"\n")
        self._maker.stdin.flush()
        while "pid" not in (said := self._hear(20)):
            self._note(said)
        return int(said["pid"])

    def wait(self, pid: int, patience_s: float) -> int | None:
        """Its exit code, negative for a signal; None when it has not ended by then."""
        end = time.monotonic() + patience_s
        while pid not in self._codes:
            left = end - time.monotonic()
            if left <= 0:
                return None
            with contextlib.suppress(TimeoutError):
                self._note(self._hear(left))
        return self._codes[pid]

    def _note(self, said: dict[str, Any]) -> None:
        if "ended" in said:
            self._codes[said["ended"]] = said["code"]

    def _hear(self, patience_s: float) -> dict[str, Any]:
        assert self._maker is not None
        assert self._maker.stdout is not None
        end = time.monotonic() + patience_s
        while b"\n" not in self._heard:
            left = end - time.monotonic()
            if left <= 0 or not select.select([self._maker.stdout], [], [], left)[0]:
                raise TimeoutError("the maker of clients says nothing")
            more = os.read(self._maker.stdout.fileno(), 4096)
            assert more, "the maker of clients has ended"
            self._heard += more
        line, _, self._heard = self._heard.partition(b"\n")
        said: dict[str, Any] = json.loads(line)
        return said


# ── in the process that makes them ───────────────────────────────────────────────────────────────


def _make() -> None:

    import launcher.cli.runs
    import launcher.run.conductor
    import launcher.run.papers  # noqa: F401

    _say({"ready": True})
    living: set[int] = set()
    told = b""
    while True:
        if select.select([0], [], [], _LOOK_S)[0]:
            more = os.read(0, 1 << 16)
            if not more:
                return
            told += more
        while b"\n" in told:
            line, _, told = told.partition(b"\n")
            order = json.loads(line)
            pid = os.fork()
            if pid == 0:
                _be(order)
            living.add(pid)
            _say({"pid": pid})
        for pid in list(living):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                living.discard(pid)
                _say({"ended": pid, "code": os.waitstatus_to_exitcode(status)})


def _say(what: dict[str, Any]) -> None:
    os.write(1, json.dumps(what).encode() + b"\n")


def _be(order: dict[str, Any]) -> None:
    """Be a client, to the end."""
    code = 1
    try:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for old, new in ((nothing, 0), (log, 1), (log, 2)):
            os.dup2(old, new)
        os.environ.clear()
        os.environ.update(order["environ"])
        code = _did(order)
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BaseException:  # noqa: BLE001 - it is told in the log, and looked for there
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            for thread in threading.enumerate():
                if not thread.daemon and thread is not threading.current_thread():
                    thread.join()
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _did(order: dict[str, Any]) -> int:
    from jarvis_faults import hooks
    from launcher.cli import cli
    from launcher.cli.ending import run
    from launcher.run import conductor

    if order["hooks"]:
        hooks.install(order["hooks"])
    setattr(conductor, "start", lambda run_id: _start(run_id, order["log"]))  # noqa: B010
    what, *words = order["do"]
    if what == "conduct":
        conductor.conduct(words[0])
        return 0
    return run(cli, words)


def _start(run_id: str, log: str) -> None:
    """A conductor in the background, as `conductor.start` makes one."""
    if os.fork() == 0:
        _be({"do": ["conduct", run_id], "environ": dict(os.environ), "log": log, "hooks": None})


if __name__ == "__main__":
    _make()
