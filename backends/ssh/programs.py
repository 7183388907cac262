"""Our programs at the far end: sent with each request, gone with its answer.

A program is one file on the standard library. It travels over standard input in front of its
request, so nothing has to be installed, no version is ever stale, and nothing of a request is in an
argument that other users of the machine could read.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

from backends.errors import FtlaunchError
from backends.ssh.errors import Broken, NoAnswer
from backends.ssh.host import Host

Answer = dict[str, Any]

BEAT = timedelta(seconds=10)
"""Between two signs of life on a channel. The far end gives up on us after `PATIENCE`: a laptop
that was closed does not end its connection, and may not hold anything for hours."""

PATIENCE = timedelta(seconds=60)

_TRIES = 3
_BOOT = """
import os, sys
left, parts = int(sys.argv.pop(1)), []
while left:
    part = os.read(0, left)
    if not part:
        sys.exit("the program was cut short")
    left -= len(part)
    parts.append(part)
exec(compile(b"".join(parts), "far", "exec"))
"""


class FarError(FtlaunchError):
    """The machine could not do what it was asked; its own words."""

    def __init__(self, message: str, *, code: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        """The error number of its system, when that was the reason."""


@cache
def source(program: str) -> bytes:
    """The source of one of our far-side programs, by its file's name without the suffix."""
    return Path(__file__).with_name(f"{program}.py").read_bytes()


def argv(python: str, program: str, *arguments: str) -> list[str]:
    """The command that waits for the program and its request on standard input."""
    return [python, "-I", "-c", _BOOT, str(len(source(program))), *arguments]


def sent(program: str, request: Mapping[str, Any]) -> bytes:
    """What has to come over standard input: odd bytes of names travel as lone surrogates."""
    return source(program) + json.dumps(request).encode("ascii") + b"\n"


def ask(
    host: Host,
    program: str,
    arguments: Sequence[str],
    request: Mapping[str, Any],
    *,
    timeout: timedelta,
) -> Answer:
    """One request, one answer. What breaks in the middle is asked again: all we ask is idempotent.

    Raises SshError; FarError with the machine's words when it could not do it.
    """
    command = argv(python_of(host), program, *arguments)
    stdin = sent(program, request)
    for tries_left in reversed(range(_TRIES)):
        try:
            done = host.run(command, stdin=stdin, timeout=timeout)
            break
        except Broken:
            if not tries_left:
                raise
    words = done.err.decode("utf-8", "replace").strip()
    if done.code:
        raise FarError(words.rpartition("\n")[2] or f"exit code {done.code}")
    return judged(parsed(done.out))


def python_of(host: Host) -> str:
    """The machine's Python; FarError when there is none that our programs run under."""
    found = host.python()
    if found is None:
        raise FarError("there is no Python 3.9 or later on the machine")
    return found


def parsed(line: bytes) -> Answer:
    """An answer from its line."""
    try:
        found = json.loads(line)
    except ValueError as error:
        raise FarError(f"the machine answered {line[:200]!r}") from error
    if not isinstance(found, dict):
        raise FarError(f"the machine answered {line[:200]!r}")
    return found


def judged(answer: Answer) -> Answer:
    """The same answer; FarError when it is one."""
    if "error" in answer:
        raise FarError(str(answer["error"]), code=answer.get("errno"))
    return answer


class Channel:
    """A program at the far end that goes on while we say something now and then."""

    def __init__(self, process: subprocess.Popen[bytes], first: bytes) -> None:
        self._process = process
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._say(first)
        self._beats = threading.Thread(target=self._beat, daemon=True, name="ssh channel")
        self._beats.start()

    def _beat(self) -> None:
        while not self._over.wait(BEAT.total_seconds()):
            with contextlib.suppress(Broken):
                self._say(b"\n")

    def _say(self, what: bytes) -> None:
        assert self._process.stdin is not None
        try:
            with self._lock:
                self._process.stdin.write(what)
                self._process.stdin.flush()
        except (OSError, ValueError) as error:
            raise Broken("the connection to the machine was lost") from error

    def say(self, what: Any) -> None:
        """Send a line of JSON. Raises Broken."""
        self._say(json.dumps(what).encode("ascii") + b"\n")

    def hear(self) -> Answer:
        """The next line. Raises Broken at the end; FarError when it tells of a failure."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.endswith(b"\n"):
            raise Broken("the connection to the machine was lost")
        return judged(parsed(line))

    def close(self) -> None:
        """Let go; the far end notices."""
        self._over.set()
        self._beats.join()
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            self._process.communicate(timeout=10)
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()


@contextlib.contextmanager
def channel(
    host: Host, program: str, arguments: Sequence[str], request: Mapping[str, Any]
) -> Iterator[Channel]:
    """A channel to a program of ours. Raises SshError, FarError."""
    command = argv(python_of(host), program, *arguments)
    try:
        process = host.popen(command)
    except OSError as error:
        raise NoAnswer(f"ssh does not start: {error}") from error
    made = Channel(process, sent(program, request))
    try:
        yield made
    finally:
        made.close()
