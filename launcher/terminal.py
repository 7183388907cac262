"""Attach this terminal to a program that `workers/serve_terminal.py` runs in a job.

The connection goes through a backend's tunnel. The frames are described in the worker, which shares
no code with this side: it must stand alone where it runs.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import signal
import socket
import struct
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from types import FrameType
from typing import Self

from backends.errors import Failed, Unreachable
from backends.lease import Address

DETACH = b"\x1d"
"""Ctrl-]: leaves the program running."""

PING_SECONDS = 20.0
_CHUNK = 16 * 1024
_AHEAD_BYTES = 64 * 1024  # keys that may wait to be sent before no more are read

_AGAIN = "run the same command again"


def attach(
    address: Address,
    token: str,
    *,
    stdin: int = 0,
    stdout: int = 1,
    patience: timedelta = timedelta(seconds=30),
) -> int:
    """Talk to the program until it ends; returns its exit code, or 0 when Ctrl-] was pressed.

    stdin, stdout  descriptors. Where stdin is no terminal, its bytes are typed and its end is
                   Ctrl-D; the connection stays until the program ends.
    patience       how long to wait for a server that does not listen yet

    The terminal's own settings are put back whatever happens.
    Raises Unreachable when nobody answers or the connection breaks, Failed when the server refuses.
    """
    connection = _connect(address, token, _size(stdout), patience)
    with connection, ExitStack() as undo:
        resized = undo.enter_context(_resizes())
        if os.isatty(stdin):
            undo.enter_context(_raw(stdin))
        return _Talk(connection, stdin, stdout, resized).run()


@dataclass
class _Connection:
    """Frames over a socket, sent without ever waiting for the other side to read."""

    socket: socket.socket
    received: bytearray = field(default_factory=bytearray)
    unsent: bytearray = field(default_factory=bytearray)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def put(self, kind: bytes, content: bytes = b"") -> None:
        self.unsent += kind + struct.pack(">I", len(content)) + content

    def flush(self) -> None:
        """Send what the socket takes now."""
        with suppress(BlockingIOError):
            del self.unsent[: self.socket.send(self.unsent)]

    def fill(self) -> bool:
        """Take in what has come; False when the other side has hung up."""
        try:
            chunk = self.socket.recv(_CHUNK)
        except BlockingIOError:
            return True
        self.received += chunk
        return bool(chunk)

    def frames(self) -> Iterator[tuple[bytes, bytes]]:
        """Whole frames that have come."""
        while len(self.received) >= 5:
            (length,) = struct.unpack(">I", self.received[1:5])
            if len(self.received) < 5 + length:
                return
            kind, content = bytes(self.received[:1]), bytes(self.received[5 : 5 + length])
            del self.received[: 5 + length]
            yield kind, content


class _Talk:
    """One attachment, from the first key to the exit code."""

    def __init__(self, connection: _Connection, stdin: int, stdout: int, resized: int) -> None:
        self.connection = connection
        self.stdin: int | None = stdin
        self.stdout = stdout
        self.typed_by_hand = os.isatty(stdin)
        self.resized = resized
        self.code: int | None = None
        self.sent_at = time.monotonic()

    def run(self) -> int:
        """The program's exit code; 0 after Ctrl-]."""
        self._show()  # what came with the welcome
        while self.code is None:
            try:
                self._turn()
            except OSError as broken:
                raise _broken(broken.strerror or str(broken)) from None
        return self.code

    def _turn(self) -> None:
        connection = self.connection
        sources: list[int | socket.socket] = [connection.socket, self.resized]
        if self.stdin is not None and len(connection.unsent) < _AHEAD_BYTES:
            sources.append(self.stdin)
        writes = [connection.socket] if connection.unsent else []
        ready, _, _ = select.select(sources, writes, [], PING_SECONDS)
        if self.resized in ready:
            os.read(self.resized, _CHUNK)
            connection.put(b"W", struct.pack(">HH", *_size(self.stdout)))
        if self.stdin is not None and self.stdin in ready:
            self._type(self.stdin)
        if time.monotonic() - self.sent_at >= PING_SECONDS:
            connection.put(b"P")
        if connection.unsent:
            self.sent_at = time.monotonic()
            connection.flush()
        if connection.socket in ready:
            open_still = connection.fill()
            self._show()
            if not open_still and self.code is None:
                raise _broken("the server hung up")

    def _type(self, stdin: int) -> None:
        try:
            keys = os.read(stdin, _CHUNK)
        except OSError as error:
            if error.errno != errno.EIO:  # our own terminal is gone
                raise
            keys = b""
        before, detach, _ = keys.partition(DETACH) if self.typed_by_hand else (keys, b"", b"")
        if before:
            self.connection.put(b"D", before)
        if detach:
            self.code = 0
        elif not keys:
            self.stdin = None
            self.connection.put(b"E")

    def _show(self) -> None:
        for kind, content in self.connection.frames():
            if kind == b"D":
                _write_all(self.stdout, content)
            elif kind == b"X":
                (self.code,) = struct.unpack(">i", content)
            elif kind == b"R":
                raise Failed(
                    f"the terminal is no longer ours: {content.decode(errors='replace')}",
                    hint=_AGAIN,
                )


def _connect(
    address: Address, token: str, size: tuple[int, int], patience: timedelta
) -> _Connection:
    """A connection that the server has welcomed.

    A tunnel may accept before the server behind it listens, so only the welcome counts.
    """
    end = time.monotonic() + patience.total_seconds()
    while True:
        try:
            return _welcomed(socket.create_connection((address.host, address.port), 5), token, size)
        except OSError as error:
            reason = error.strerror or str(error)
        if time.monotonic() >= end:
            raise Unreachable(
                f"nobody answers at {address.host}:{address.port}: {reason}", hint=_AGAIN
            )
        time.sleep(0.2)


def _welcomed(raw: socket.socket, token: str, size: tuple[int, int]) -> _Connection:
    """The connection, once the server has taken the token. Raises OSError when it does not answer.

    raw is closed if anything goes wrong.
    """
    connection = _Connection(raw)
    with ExitStack() as undo:
        undo.enter_context(connection)
        connection.put(b"T", token.encode())
        connection.put(b"W", struct.pack(">HH", *size))
        raw.sendall(connection.unsent)
        connection.unsent.clear()
        while connection.fill():
            for kind, content in connection.frames():
                if kind == b"O":
                    raw.setblocking(False)
                    undo.pop_all()
                    return connection
                if kind == b"R":
                    why = content.decode(errors="replace")
                    raise Failed(f"the terminal refuses: {why}")
    raise OSError("the server hung up")


def _broken(reason: str) -> Unreachable:
    return Unreachable(f"the connection to the terminal broke: {reason}", hint=_AGAIN)


def _size(descriptor: int) -> tuple[int, int]:
    """Rows and columns of the terminal, or the customary ones where there is none."""
    try:
        size = fcntl.ioctl(descriptor, termios.TIOCGWINSZ, bytes(8))
    except OSError:
        return 24, 80
    rows, columns = struct.unpack("HHHH", size)[:2]
    return (rows, columns) if rows and columns else (24, 80)


def _write_all(descriptor: int, content: bytes) -> None:
    while content:
        try:
            content = content[os.write(descriptor, content) :]
        except BlockingIOError:
            select.select([], [descriptor], [])


@contextmanager
def _raw(descriptor: int) -> Iterator[None]:
    """Every key goes through; the settings come back at the end, and when we are told to go."""
    before = termios.tcgetattr(descriptor)
    try:
        with _leaving_on_signals():
            tty.setraw(descriptor, termios.TCSADRAIN)
            yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
        sys.stderr.write("\r\n")
        sys.stderr.flush()


@contextmanager
def _leaving_on_signals() -> Iterator[None]:
    """Turn the signals that would kill us outright into an orderly exit."""

    def leave(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    with _handling({signal.SIGTERM: leave, signal.SIGHUP: leave}):
        yield


@contextmanager
def _resizes() -> Iterator[int]:
    """A descriptor that can be read after the window changed its size."""
    read, write = os.pipe()
    os.set_blocking(write, False)

    def note(_number: int, _frame: FrameType | None) -> None:
        with suppress(OSError):
            os.write(write, b"!")

    try:
        with _handling({signal.SIGWINCH: note}):
            yield read
    finally:
        os.close(read)
        os.close(write)


@contextmanager
def _handling(
    handlers: dict[signal.Signals, Callable[[int, FrameType | None], None]],
) -> Iterator[None]:
    """Handle these signals for a while; only the main thread can."""
    before: dict[signal.Signals, object] = {}
    try:
        for number, handler in handlers.items():
            with suppress(ValueError):
                before[number] = signal.signal(number, handler)
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old or signal.SIG_DFL)  # type: ignore[arg-type]
