"""The terminal bridge: the real worker, the real client, each a process, in real terminals."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from backends.errors import Failed, Unreachable
from backends.lease import Address
from launcher import commands, terminal
from launcher.workers import idle_guard

TOKEN = "a secret, é"
PATIENCE = 30.0  # no test passes by waiting; this ends one that hangs

TOY = r"""
import os, signal, subprocess, sys, zlib
count = crc = 0
print("pid", os.getpid(), "token", os.environ.get("FTLAUNCH_TERMINAL_TOKEN"), flush=True)
while True:
    try:
        line = input("> ")
    except EOFError:
        break
    if line == "size":
        print("size", *os.get_terminal_size())
    elif line.startswith("exit"):
        sys.exit(int(line[4:]))
    elif line == "flood":
        sys.stdout.write("".join(f"{n:09}\n" for n in range(200_000)) + "dry\n")
    elif line == "child":
        print("child", subprocess.Popen(["sleep", "600"]).pid)
    elif line == "deaf":
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print("deaf now")
    else:
        count, crc = count + 1, zlib.crc32(line.encode(), crc)
        print("heard", line)
print("bye", count, crc)
"""

CLIENT = """
import os, sys
from backends.errors import FtlaunchError
from backends.lease import Address
from launcher import terminal
try:
    address = Address("127.0.0.1", int(sys.argv[1]))
    sys.exit(terminal.attach(address, os.environ["TEST_TOKEN"]))
except FtlaunchError as wrong:
    print(type(wrong).__name__ + ": " + wrong.message)
    sys.exit(90)
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


class Served:
    """A worker with a program in it."""

    def __init__(self, argv: list[str], idle_seconds: float) -> None:
        worker = commands.worker_source(commands.SERVE_TERMINAL)
        flags = ["--port=0", f"--idle-seconds={idle_seconds}", "--"]
        self.process = subprocess.Popen(
            [sys.executable, str(worker), *flags, *argv],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "FTLAUNCH_TERMINAL_TOKEN": TOKEN},
            start_new_session=True,
        )
        assert self.process.stdout is not None
        self.log = self.process.stdout
        first = self.log.readline().decode()
        assert first.startswith("terminal on 127.0.0.1:"), first
        self.port = int(first.rpartition(":")[2])

    @property
    def address(self) -> Address:
        return Address("127.0.0.1", self.port)

    def ended(self) -> tuple[int, str]:
        out = self.log.read()  # not `communicate`: it would miss what the first line's read took in
        return self.process.wait(PATIENCE), out.decode()


class Person:
    """Somebody at a terminal who runs the client."""

    def __init__(self, served: Served, token: str = TOKEN) -> None:
        self.hands, self.terminal = pty.openpty()
        self.resize(40, 100)
        self.before = termios.tcgetattr(self.terminal)
        self.seen = b""
        self.process = subprocess.Popen(
            [sys.executable, "-c", CLIENT, str(served.port)],
            stdin=self.terminal,
            stdout=self.terminal,
            stderr=self.terminal,
            env={**os.environ, "TEST_TOKEN": token},
        )

    def type(self, keys: bytes) -> None:
        os.write(self.hands, keys)

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.hands, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def look(self) -> None:
        while select.select([self.hands], [], [], 0)[0]:
            self.seen += os.read(self.hands, 65536)

    def sees(self, pattern: str) -> re.Match[bytes]:
        """Wait until the screen has shown this."""
        end = time.monotonic() + PATIENCE
        while not (found := re.search(pattern.encode(), self.seen)):
            left = end - time.monotonic()
            assert left > 0, f"{pattern!r} did not come: {self.seen[-2000:]!r}"
            if select.select([self.hands], [], [], left)[0]:
                self.seen += os.read(self.hands, 65536)
        return found

    def leaves(self) -> int:
        """Wait for the client's end; the exit code."""
        end = time.monotonic() + PATIENCE
        while (code := self.process.poll()) is None:
            assert time.monotonic() < end, f"the client stays: {self.seen[-2000:]!r}"
            self.look()
            time.sleep(0.02)
        self.look()
        assert termios.tcgetattr(self.terminal) == self.before, "the terminal is not as it was"
        return code

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.hands)
        os.close(self.terminal)


@pytest.fixture
def serve() -> Iterator[Callable[..., Served]]:
    made: list[Served] = []

    def start(*argv: str, idle_seconds: float = 600) -> Served:
        program = list(argv) or [sys.executable, "-c", TOY]
        made.append(Served(program, idle_seconds))
        return made[-1]

    yield start
    for served in made:
        if served.process.poll() is None:
            served.process.kill()
        served.process.wait()
        served.log.close()


@pytest.fixture
def person() -> Iterator[Callable[..., Person]]:
    made: list[Person] = []

    def sit(served: Served, token: str = TOKEN) -> Person:
        made.append(Person(served, token))
        return made[-1]

    yield sit
    for somebody in made:
        somebody.close()


Serve = Callable[..., Served]
Sit = Callable[..., Person]


def test_keys_go_in_output_and_exit_code_come_out(serve: Serve, person: Sit) -> None:
    served = serve()
    me = person(served)
    me.sees("> ")
    me.type("grüße\r".encode())
    me.sees("heard grüße")
    me.type(b"exit 7\r")
    assert me.leaves() == 7
    code, log = served.ended()
    assert code == 7
    assert "the program ended with 7" in log


def test_keys_mean_what_they_mean_in_the_program(serve: Serve, person: Sit) -> None:
    me = person(serve())
    me.sees("> ")
    me.type(b"\x03")  # Ctrl-C reaches the program, not the client
    me.sees("KeyboardInterrupt")
    assert me.leaves() in {1, 130}


def test_the_program_knows_the_size_of_the_window(serve: Serve, person: Sit) -> None:
    me = person(serve())
    me.sees("> ")
    me.type(b"size\r")
    me.sees("size 100 40")
    me.resize(50, 120)
    me.process.send_signal(signal.SIGWINCH)

    def grown() -> bool:
        me.type(b"size\r")
        me.look()
        return b"size 120 50" in me.seen

    eventually(grown)


def test_a_wrong_token_is_refused(serve: Serve, person: Sit) -> None:
    served = serve()
    stranger = person(served, token="guess")
    assert stranger.leaves() == 90
    assert b"Failed: the terminal refuses: the token is wrong" in stranger.seen
    assert b"pid" not in stranger.seen
    me = person(served)
    me.sees("pid")


def test_nothing_is_shown_before_a_token(serve: Serve) -> None:
    served = serve()
    with socket.create_connection(("127.0.0.1", served.port), timeout=PATIENCE) as stranger:
        stranger.sendall(b"D" + struct.pack(">I", 8) + b"exit 3\r\n")
        assert stranger.recv(1024).startswith(b"R")
    assert served.process.poll() is None


def test_the_token_reaches_neither_the_program_nor_an_argv(serve: Serve, person: Sit) -> None:
    served = serve()
    me = person(served)
    me.sees(r"pid \d+ token None")
    argv = Path(f"/proc/{served.process.pid}/cmdline").read_bytes()
    assert TOKEN.encode() not in argv
    assert TOKEN.encode() not in me.seen


def test_it_listens_on_the_loopback_only(serve: Serve) -> None:
    assert not idle_guard.reachable_from_elsewhere(serve().port)


def test_who_comes_back_sees_what_was_said(serve: Serve, person: Sit) -> None:
    served = serve()
    me = person(served)
    pid = int(me.sees(r"pid (\d+)")[1])
    me.type(b"hello\r")
    me.sees("heard hello")
    me.type(b"half a li\x1d")
    assert me.leaves() == 0
    assert alive(pid)
    again = person(served)
    again.sees("heard hello")
    again.type(b"ne\r")
    again.sees("heard half a line")


def test_a_newcomer_with_the_token_takes_over(serve: Serve, person: Sit) -> None:
    served = serve()
    first = person(served)
    first.sees("> ")
    second = person(served)
    second.sees("> ")
    assert first.leaves() == 90
    assert b"attached from elsewhere" in first.seen
    second.type(b"me\r")
    second.sees("heard me")


def test_a_client_that_is_told_to_go_puts_the_terminal_back(serve: Serve, person: Sit) -> None:
    served = serve()
    me = person(served)
    me.sees("> ")
    me.process.send_signal(signal.SIGTERM)
    assert me.leaves() == 128 + signal.SIGTERM
    again = person(served)
    again.sees("> ")


def test_a_server_that_is_killed_takes_its_program_along(serve: Serve, person: Sit) -> None:
    served = serve()
    me = person(served)
    pid = int(me.sees(r"pid (\d+)")[1])
    served.process.kill()
    assert me.leaves() == 90
    assert b"Unreachable: the connection to the terminal broke" in me.seen
    eventually(lambda: not alive(pid))


@pytest.mark.parametrize("deaf", [False, True])
def test_a_server_that_is_told_to_go_ends_all_it_started(
    serve: Serve, person: Sit, *, deaf: bool
) -> None:
    served = serve()
    me = person(served)
    pid = int(me.sees(r"pid (\d+)")[1])
    me.type(b"child\r")
    child = int(me.sees(r"child (\d+)")[1])
    if deaf:
        me.type(b"deaf\r")
        me.sees("deaf now")
    served.process.send_signal(signal.SIGTERM)
    assert me.leaves() == 128 + signal.SIGTERM
    assert served.ended()[0] == 128 + signal.SIGTERM
    eventually(lambda: not alive(pid) and not alive(child))


def test_it_ends_when_nobody_comes(serve: Serve) -> None:
    code, log = serve(idle_seconds=0.3).ended()
    assert code == 0
    assert "nobody was attached for 0.3 seconds: ended" in log


def test_it_ends_when_everybody_has_gone_but_not_before(serve: Serve) -> None:
    served = serve(idle_seconds=3)
    with socket.create_connection(("127.0.0.1", served.port), timeout=PATIENCE) as me:
        secret = TOKEN.encode()
        me.sendall(b"T" + struct.pack(">I", len(secret)) + secret)
        with me.makefile("rb") as frames:
            seen = b""
            while not (found := re.search(rb"pid (\d+) ", seen)):
                seen += frames.read(struct.unpack(">xI", frames.read(5))[0])
        time.sleep(4)  # longer than it would wait alone
        assert served.process.poll() is None
        assert alive(int(found[1]))
    assert served.ended()[0] == 0
    assert not alive(int(found[1]))


def test_much_output_arrives_whole(serve: Serve, person: Sit) -> None:
    me = person(serve())
    me.sees("> ")
    me.type(b"flood\r")
    me.sees("dry")
    assert re.findall(rb"^(\d{9})\r?$", me.seen, re.MULTILINE) == [
        b"%09d" % number for number in range(200_000)
    ]


def piped(served: Served, content: bytes) -> tuple[int, bytes]:
    """Attach with a file as the standard input and another as the output."""
    ended = subprocess.run(  # noqa: PLW1510 - its code is looked at
        [sys.executable, "-c", CLIENT, str(served.port)],
        input=content,
        stdout=subprocess.PIPE,
        env={**os.environ, "TEST_TOKEN": TOKEN},
        timeout=PATIENCE * 3,
    )
    return ended.returncode, ended.stdout


def test_lines_from_a_pipe_are_typed_and_its_end_ends_the_talk(serve: Serve) -> None:
    code, out = piped(serve(), b"one\ntwo\n")
    assert code == 0
    assert out.index(b"heard one") < out.index(b"heard two") < out.index(b"bye")


def test_more_lines_than_a_terminal_holds_all_arrive(serve: Serve) -> None:
    lines = [f"line {number} " + "x" * 60 for number in range(1000)]
    code, out = piped(serve(), "".join(f"{line}\n" for line in lines).encode())
    assert code == 0
    # What is shown may be interleaved with the echo of what is typed; what was read may not.
    assert f"bye {len(lines)} {zlib.crc32(''.join(lines).encode())}".encode() in out


def test_a_program_that_cannot_start(serve: Serve) -> None:
    code, log = serve("no-such-program-here").ended()
    assert code == 127
    assert "cannot start no-such-program-here: No such file or directory" in log


def test_a_program_that_ends_at_once_with_nobody_there(serve: Serve) -> None:
    code, log = serve("sh", "-c", "echo the model is broken; exit 4").ended()
    assert code == 4
    assert "the model is broken" in log


def test_nobody_answers() -> None:
    port = idle_guard.free_port()
    with pytest.raises(Unreachable, match=f"nobody answers at 127.0.0.1:{port}"):
        terminal.attach(Address("127.0.0.1", port), "t", patience=timedelta(0))


def test_a_tunnel_that_accepts_and_drops_is_nobody() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def drop() -> None:
            listening.accept()[0].close()

        dropper = threading.Thread(target=drop)
        dropper.start()
        address = Address("127.0.0.1", listening.getsockname()[1])
        with pytest.raises((Unreachable, Failed)):
            terminal.attach(address, "t", patience=timedelta(0))
        dropper.join()


@pytest.mark.parametrize(
    ("variables", "argv", "said"),
    [
        ({}, ["--port=0", "--", "true"], "FTLAUNCH_TERMINAL_TOKEN is not set"),
        ({"FTLAUNCH_TERMINAL_TOKEN": "t"}, ["--port=0"], "name the program"),
    ],
)
def test_a_command_line_that_cannot_be(
    variables: dict[str, str], argv: list[str], said: str
) -> None:
    worker = commands.worker_source(commands.SERVE_TERMINAL)
    ended = subprocess.run(  # noqa: PLW1510 - its code is looked at
        [sys.executable, str(worker), *argv],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert ended.returncode == 2
    assert said in ended.stderr


def test_a_port_that_is_taken_is_said_in_a_sentence(serve: Serve) -> None:
    taken = serve().port
    ended = subprocess.run(  # noqa: PLW1510 - its code is looked at
        [
            sys.executable,
            str(commands.worker_source(commands.SERVE_TERMINAL)),
            f"--port={taken}",
            "--",
            "true",
        ],
        env={**os.environ, "FTLAUNCH_TERMINAL_TOKEN": "t"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert ended.returncode == 1
    assert f"cannot listen on port {taken}" in ended.stderr
