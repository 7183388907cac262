"""Run a program in a terminal that one person at a time attaches to over a local port.

The terminal outlives the connection: whoever attaches again sees the recent output, and whoever
attaches with the token takes the place of the one before, so that a broken connection never locks
its owner out. Stands alone, on the standard library:

    FTLAUNCH_TERMINAL_TOKEN=… python serve_terminal.py --port=N --idle-seconds=S -- PROGRAM ARG…

Listens on 127.0.0.1 only. Ends with the program and its exit code (128 + n for signal n), or with
0 after S seconds in which nobody was attached: the program is then ended.

Frames are one letter, four bytes of length (big-endian), and the content:

    to the server    T token   W rows, columns (two bytes each)   D keys   E end of input   P ping
    to the client    O attached   D output   X exit code (four bytes, signed)   R refused: why
"""

import argparse
import asyncio
import contextlib
import fcntl
import hmac
import os
import pty
import signal
import socket
import struct
import sys
import termios
from collections.abc import Sequence
from typing import NoReturn

TOKEN_VARIABLE = "FTLAUNCH_TERMINAL_TOKEN"  # noqa: S105 - a name, not the token
SCROLLBACK_BYTES = 64 * 1024
FRAME_BYTES = 64 * 1024
SILENT_SECONDS = 90.0
"""A client pings every 20 s; one silent for this long hangs on a dead connection."""
TOKEN_SECONDS = 10.0
GRACE_SECONDS = 5.0
PENDING_BYTES = 256 * 1024
"""Output waits in memory up to this; then the program waits."""


class Program:
    """A program in a terminal of its own."""

    def __init__(self, argv: Sequence[str]) -> None:
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            _become(argv)
        os.set_blocking(self.terminal, False)
        self.resize(24, 80)

    def resize(self, rows: int, columns: int) -> None:
        """Tell the program how large its terminal is."""
        size = struct.pack("HHHH", rows, columns, 0, 0)
        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, size)

    def read(self) -> bytes | None:
        """Output that is there, b"" at the end, None when there is none now."""
        try:
            return os.read(self.terminal, FRAME_BYTES)
        except BlockingIOError:
            return None
        except OSError:  # EIO: nobody has the other side open any more
            return b""

    def write(self, keys: bytes) -> int:
        """How many of the keys the terminal has taken now."""
        try:
            return os.write(self.terminal, keys)
        except BlockingIOError:
            return 0
        except OSError:
            return len(keys)

    def signal(self, what: int) -> None:
        """Signal the program and all it started in its terminal."""
        try:
            os.killpg(self.pid, what)
        except (ProcessLookupError, PermissionError):
            return

    def wait(self) -> int:
        """The exit code, when the program has ended."""
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return code if code >= 0 else 128 - code


def _become(argv: Sequence[str]) -> NoReturn:
    os.environ.pop(TOKEN_VARIABLE, None)
    os.environ.setdefault("TERM", "xterm-256color")
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and an exec would keep that
    try:
        os.execvp(argv[0], list(argv))  # noqa: S606 - argv, never a shell
    except OSError as wrong:
        print(f"cannot start {argv[0]}: {wrong.strerror}")
        sys.stdout.flush()
    os._exit(127)


class Client:
    """Whoever is attached."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        writer.transport.set_write_buffer_limits(PENDING_BYTES)

    def send(self, kind: bytes, content: bytes = b"") -> None:
        """Send one frame; a connection that is gone swallows it."""
        if not self.writer.is_closing():
            self.writer.write(kind + struct.pack(">I", len(content)) + content)

    async def show(self, output: bytes) -> None:
        """Send output, and wait while too much of it is on its way."""
        self.send(b"D", output)
        with contextlib.suppress(OSError):
            await self.writer.drain()

    def close(self) -> None:
        """End the connection when what was sent is out, or soon: it may never get out."""
        self.writer.close()
        loop = asyncio.get_running_loop()
        loop.call_later(GRACE_SECONDS, self.writer.transport.abort)


class Server:
    """The terminal, its recent output, and at most one client."""

    def __init__(self, program: Program, token: str, idle_seconds: float) -> None:
        self.program = program
        self.token = token.encode()
        self.idle_seconds = idle_seconds
        self.client: Client | None = None
        self.scrollback = bytearray()
        self.typing = asyncio.Lock()
        self.closing: asyncio.Task[None] | None = None
        self.ending: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.alone_since = self._now()

    async def run(self, listening: socket.socket) -> int:
        """Serve until the program ends or nobody wants it; returns this process's exit code."""
        loop = asyncio.get_running_loop()
        listener = await asyncio.start_server(self._attached, sock=listening)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self._end, 128 + number)
        print(f"terminal on 127.0.0.1:{listening.getsockname()[1]}", flush=True)
        async with listener:
            output = asyncio.create_task(self._output())
            idle = asyncio.create_task(self._idle())
            code = await self._finished(output)
            idle.cancel()
            await self._goodbye(code)
        return code

    async def _finished(self, output: "asyncio.Task[None]") -> int:
        """Wait for the program, or for a reason to end it, and see to it that it is gone."""
        ended = asyncio.create_task(asyncio.to_thread(self.program.wait))
        await asyncio.wait({ended, self.ending}, return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            for what in (signal.SIGHUP, signal.SIGTERM, signal.SIGKILL):
                self.program.signal(what)
                if (await asyncio.wait({ended}, timeout=GRACE_SECONDS))[0]:
                    break
        code = await ended
        self.program.signal(signal.SIGKILL)  # what it left behind in its own terminal
        await asyncio.wait({output}, timeout=GRACE_SECONDS)
        return self.ending.result() if self.ending.done() else code

    async def _output(self) -> None:
        """Carry the program's output to the client, no faster than the client takes it."""
        while (chunk := self.program.read()) != b"":
            if chunk is None:
                await _ready(self.program.terminal, write=False)
                continue
            self.scrollback += chunk
            del self.scrollback[:-SCROLLBACK_BYTES]
            if self.client is not None:
                await self.client.show(chunk)
            await asyncio.sleep(0)  # a program that never pauses must not keep the others waiting

    async def _idle(self) -> None:
        while True:
            left = self.alone_since + self.idle_seconds - self._now()
            if self.client is None and left <= 0:
                print(f"nobody was attached for {self.idle_seconds:g} seconds: ended", flush=True)
                self._end(0)
                return
            await asyncio.sleep(min(max(left, 0.05), 1.0))

    def _end(self, code: int) -> None:
        if not self.ending.done():
            self.ending.set_result(code)

    async def _goodbye(self, code: int) -> None:
        """Tell the client how it ended, and the log what came last if it went wrong."""
        if code != 0:
            last = bytes(self.scrollback[-4096:]).decode(errors="replace")
            print(f"the program ended with {code}; its last output:\n{last}", flush=True)
        if self.client is not None:
            self.client.send(b"X", struct.pack(">i", code))
            self.client.close()
            with contextlib.suppress(OSError):
                await self.client.writer.wait_closed()

    async def _attached(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = Client(writer)
        try:
            async with asyncio.timeout(TOKEN_SECONDS):
                kind, token = await _frame(reader)
            if kind != b"T" or not hmac.compare_digest(token, self.token):
                client.send(b"R", b"the token is wrong")
                return
            self._welcome(client)
            await self._obey(reader, client)
        except (OSError, EOFError, ValueError, struct.error):
            pass  # gone, silent or talking nonsense: all end the connection
        finally:
            if self.client is client:
                self.client = None
                self.alone_since = self._now()
            client.close()

    def _welcome(self, client: Client) -> None:
        if self.client is not None:
            self.client.send(b"R", b"attached from elsewhere")
            self.client.close()
        self.client = client
        client.send(b"O")
        client.send(b"D", bytes(self.scrollback))

    async def _obey(self, reader: asyncio.StreamReader, client: Client) -> None:
        while self.client is client:
            async with asyncio.timeout(SILENT_SECONDS):
                kind, content = await _frame(reader)
            if kind == b"D":
                await self._type(content)
            elif kind == b"W":
                self.program.resize(*struct.unpack(">HH", content))
            elif kind == b"E" and self.closing is None:
                self.closing = asyncio.create_task(self._close_input())

    async def _type(self, keys: bytes) -> None:
        """Give keys to the program, and wait while it does not take them."""
        async with self.typing:
            while keys:
                taken = self.program.write(keys)
                keys = keys[taken:]
                if not taken:
                    await _ready(self.program.terminal, write=True)

    async def _close_input(self) -> None:
        """Press Ctrl-D until the program ends.

        Once is not enough: pressed while a program switches its terminal from lines to single keys,
        as readline does at each prompt, it is lost.
        """
        while True:
            await self._type(b"\x04")
            await asyncio.sleep(1.0)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


async def _frame(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    header = await reader.readexactly(5)
    (length,) = struct.unpack(">I", header[1:])
    if length > FRAME_BYTES:
        raise ValueError("a frame that long is not ours")
    return header[:1], await reader.readexactly(length)


async def _ready(descriptor: int, *, write: bool) -> None:
    """Wait until the descriptor can be read or written."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    add, remove = (
        (loop.add_writer, loop.remove_writer) if write else (loop.add_reader, loop.remove_reader)
    )
    add(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        remove(descriptor)


async def _serve(
    argv: Sequence[str], listening: socket.socket, token: str, idle_seconds: float
) -> int:
    return await Server(Program(argv), token, idle_seconds).run(listening)


def main(argv: Sequence[str]) -> int:
    """Serve what the command line names; exit code 2 for a command line that cannot be."""
    parser = argparse.ArgumentParser(prog="serve_terminal", allow_abbrev=False)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--idle-seconds", type=float, default=900.0)
    ours, program = _split(argv)
    options = parser.parse_args(ours)
    token = os.environ.get(TOKEN_VARIABLE, "")
    if not token:
        parser.error(f"{TOKEN_VARIABLE} is not set")
    if not program:
        parser.error("name the program after --")
    try:
        listening = socket.create_server(("127.0.0.1", options.port))
    except OSError as wrong:
        print(f"cannot listen on port {options.port}: {wrong.strerror}", file=sys.stderr)
        return 1
    with listening:
        return asyncio.run(_serve(program, listening, token, options.idle_seconds))


def _split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Our own arguments, and the program's after the first `--`."""
    cut = argv.index("--") if "--" in argv else len(argv)
    return list(argv[:cut]), list(argv[cut + 1 :])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
