"""The guard of a web page: the real worker in front of a real server."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from launcher import commands
from launcher.workers import idle_guard

PATIENCE = 30.0

SERVER = """
import os, socket, subprocess, sys
host = sys.argv[1]
port = int(sys.argv[-1].partition("--its-port=")[2])
child = subprocess.Popen(["sleep", "600"])
family = socket.AF_INET6 if ":" in host else socket.AF_INET
with socket.create_server((host, port), family=family) as listening:
    print("serving", os.getpid(), child.pid, flush=True)
    while True:
        connection, _ = listening.accept()
        with connection:
            while line := connection.recv(1024):
                if line == b"exit":
                    os._exit(5)
                connection.sendall(line.upper())
            connection.sendall(b"bye")
"""


def eventually(what: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


class Guarded:
    """A guard and the server behind it, in a process group of their own, as in a job."""

    def __init__(self, host: str, idle_seconds: float) -> None:
        self.port = idle_guard.free_port()
        worker = commands.worker_source(commands.IDLE_GUARD)
        flags = [f"--port={self.port}", f"--idle-seconds={idle_seconds}", "--tell=--its-port="]
        self.process = subprocess.Popen(
            [sys.executable, str(worker), *flags, "--", sys.executable, "-c", SERVER, host],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        self.log = self.process.stdout
        first = self.log.readline().split()
        assert first[:1] == ["serving"], first
        self.pids = [int(pid) for pid in first[1:]]

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)

    def ended(self) -> tuple[int, str]:
        out = self.log.read()
        return self.process.wait(PATIENCE), out


@pytest.fixture
def guard() -> Iterator[Callable[..., Guarded]]:
    made: list[Guarded] = []

    def start(host: str = "127.0.0.1", idle_seconds: float = 600) -> Guarded:
        made.append(Guarded(host, idle_seconds))
        return made[-1]

    yield start
    for guarded in made:
        if guarded.process.poll() is None:
            os.killpg(guarded.process.pid, signal.SIGKILL)
        guarded.process.wait()
        guarded.log.close()


Start = Callable[..., Guarded]


def test_bytes_go_through_both_ways(guard: Start) -> None:
    guarded = guard()
    for word in (b"hello", b"again"):
        with guarded.connect() as browser:
            browser.sendall(word)
            assert browser.recv(100) == word.upper()
            browser.shutdown(socket.SHUT_WR)  # what was asked is still answered
            assert browser.recv(100) == b"bye"


def test_it_listens_on_the_loopback_only(guard: Start) -> None:
    assert not idle_guard.reachable_from_elsewhere(guard().port)


def test_it_ends_the_program_and_its_children_when_nobody_comes(guard: Start) -> None:
    guarded = guard(idle_seconds=0.5)
    code, log = guarded.ended()
    assert code == 0
    assert "nobody used the page for 0.5 seconds: ended" in log
    eventually(lambda: not any(map(alive, guarded.pids)))


def test_an_open_page_that_nobody_uses_does_not_keep_it(guard: Start) -> None:
    guarded = guard(idle_seconds=2)
    with guarded.connect() as browser:
        browser.sendall(b"x")
        assert browser.recv(100) == b"X"
        assert guarded.ended()[0] == 0


def test_use_keeps_it(guard: Start) -> None:
    longest = 3.0
    while longest >= 3:  # a machine that stalled us for as long has shown nothing
        guarded, longest = guard(idle_seconds=3), 0.0
        with guarded.connect() as browser:
            for _ in range(10):
                sent = time.monotonic()
                browser.sendall(b"x")
                browser.recv(100)
                time.sleep(0.5)
                longest = max(longest, time.monotonic() - sent)
    assert guarded.process.poll() is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_a_program_that_others_can_reach_is_ended(guard: Start, host: str) -> None:
    guarded = guard(host)
    code, log = guarded.ended()
    assert code == 1
    assert "can be reached from other machines" in log
    eventually(lambda: not any(map(alive, guarded.pids)))


def test_it_ends_as_the_program_ends(guard: Start) -> None:
    guarded = guard()
    with guarded.connect() as browser:
        browser.sendall(b"exit")
        assert guarded.ended()[0] == 5
    eventually(lambda: not any(map(alive, guarded.pids)))


def test_told_to_go_it_takes_all_along(guard: Start) -> None:
    guarded = guard()
    guarded.process.send_signal(signal.SIGTERM)
    assert guarded.ended()[0] == 128 + signal.SIGTERM
    eventually(lambda: not any(map(alive, guarded.pids)))


def test_who_kills_the_group_kills_all(guard: Start) -> None:
    guarded = guard()
    os.killpg(guarded.process.pid, signal.SIGKILL)
    eventually(lambda: not any(map(alive, guarded.pids)))


def test_a_program_that_cannot_start() -> None:
    worker = commands.worker_source(commands.IDLE_GUARD)
    ended = subprocess.run(  # noqa: PLW1510 - its code is looked at
        [sys.executable, str(worker), "--port=0", "--tell=-p", "--", "no-such-program-here"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert ended.returncode == 127
    assert "cannot start no-such-program-here" in ended.stderr


def test_a_program_that_is_not_named() -> None:
    with pytest.raises(SystemExit) as ended:
        idle_guard.main(["--port=0", "--tell=-p"])
    assert ended.value.code == 2
