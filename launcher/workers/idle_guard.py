"""Serve a program's web page on a local port, and end the program when nobody uses it.

Stands alone, on the standard library:

    python idle_guard.py --port=N --idle-seconds=S --tell=--flag= -- PROGRAM ARG…

The program is told a free port of its own (`--flag=PORT` is appended to its arguments); connections
to 127.0.0.1:N are passed on to it. A browser left open holds its connections for ever, so what
counts as use is what a person sends, not what is connected: S seconds without a byte from that side
end the program, and this process with exit code 0. Otherwise it ends with the program's exit code.

The program must listen on the loopback interface only: where it can be reached from elsewhere, it
is ended at once, with exit code 1.
"""

import argparse
import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

GRACE_SECONDS = 10.0
LOOK_SECONDS = 1.0
CHUNK = 64 * 1024
_LISTENING = "0A"  # the state's number in /proc/net/tcp


class Guard:
    """The program, its port, and when somebody last used it."""

    def __init__(self, argv: Sequence[str], port: int, idle_seconds: float) -> None:
        self.argv = argv
        self.port = port
        self.idle_seconds = idle_seconds
        self.used_at = asyncio.get_running_loop().time()
        self.ending: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def run(self, listening: socket.socket) -> int:
        """Pass connections on until the program ends, or is ended; this process's exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self._end, 128 + number)
        try:
            program = await asyncio.create_subprocess_exec(*self.argv)
        except OSError as wrong:
            print(f"cannot start {self.argv[0]}: {wrong.strerror}", file=sys.stderr)
            return 127
        listener = await asyncio.start_server(self._connected, sock=listening)
        watch = asyncio.create_task(self._watch())
        ended = asyncio.create_task(program.wait())
        await asyncio.wait({ended, self.ending}, return_when=asyncio.FIRST_COMPLETED)
        watch.cancel()
        listener.close()
        await end_group()
        code = await ended
        return self.ending.result() if self.ending.done() else code if code >= 0 else 128 - code

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            if reachable_from_elsewhere(self.port):
                print("the page can be reached from other machines: ended", flush=True)
                return self._end(1)
            if loop.time() - self.used_at >= self.idle_seconds:
                print(f"nobody used the page for {self.idle_seconds:g} seconds: ended", flush=True)
                return self._end(0)
            await asyncio.sleep(min(LOOK_SECONDS, self.idle_seconds))

    def _end(self, code: int) -> None:
        if not self.ending.done():
            self.ending.set_result(code)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, behind = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:  # the program does not listen yet: whoever asks tries again
            writer.close()
            return
        try:
            answers = asyncio.create_task(self._pass(there, writer, used=False))
            await self._pass(reader, behind, used=True)
            await answers
        finally:
            behind.close()
            writer.close()

    async def _pass(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, used: bool
    ) -> None:
        """Carry bytes one way until that side is done, then say so to the other."""
        with contextlib.suppress(OSError):
            while chunk := await source.read(CHUNK):
                if used:
                    self.used_at = asyncio.get_running_loop().time()
                sink.write(chunk)
                await sink.drain()
            if used and sink.can_write_eof():
                sink.write_eof()
                return
        sink.close()


def reachable_from_elsewhere(port: int) -> bool:
    """Whether somebody listens on the port beyond the loopback interface.

    Read from the kernel's tables; False where there are none.
    """
    return any(not _loopback(address) for address in _listening_addresses(port))


def _listening_addresses(port: int) -> Iterator[str]:
    """Addresses, as the kernel writes them (hexadecimal), on which the port is listened to."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                local, _remote, state = line.split()[1:4]
                address, _, number = local.rpartition(":")
                if state == _LISTENING and int(number, 16) == port:
                    yield address


def _loopback(address: str) -> bool:
    """127.0.0.0/8, ::1, or the former written as the latter; words are in this machine's order."""
    octets = b"".join(
        int(address[at : at + 8], 16).to_bytes(4, sys.byteorder) for at in range(0, len(address), 8)
    )
    if len(octets) == 16 and octets.startswith(bytes(10) + b"\xff\xff"):
        octets = octets[12:]
    return octets[0] == 127 if len(octets) == 4 else octets == bytes(15) + b"\x01"


async def end_group() -> None:
    """End everything else in our process group: first asked, then killed.

    The program starts others (accelerate does) that do not end with it. They share our group, and
    not one of their own, so that whoever kills the group kills all of it.
    """
    loop = asyncio.get_running_loop()
    for what, seconds in ((signal.SIGTERM, GRACE_SECONDS), (signal.SIGKILL, GRACE_SECONDS)):
        until = loop.time() + seconds
        told: set[int] = set()
        while (others := _others()) and loop.time() < until:
            for pid in others - told:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, what)
            told |= others
            await asyncio.sleep(0.1)


def _others() -> set[int]:
    """Living processes of our group besides ourselves."""
    found: set[int] = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                # After the name in brackets, which may hold anything: state, parent, group.
                state, _parent, group = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
                if int(group) == os.getpgrp() and state not in "ZX":
                    found.add(int(entry.name))
    return found


def free_port() -> int:
    """A port of the loopback interface that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def _guard(
    argv: Sequence[str], listening: socket.socket, port: int, idle_seconds: float
) -> int:
    return await Guard(argv, port, idle_seconds).run(listening)


def main(argv: Sequence[str]) -> int:
    """Guard what the command line names; exit code 2 for a command line that cannot be."""
    parser = argparse.ArgumentParser(prog="idle_guard", allow_abbrev=False)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--idle-seconds", type=float, default=900.0)
    parser.add_argument("--tell", required=True, help="what goes before the program's own port")
    cut = argv.index("--") if "--" in argv else len(argv)
    options = parser.parse_args(argv[:cut])
    program = list(argv[cut + 1 :])
    if not program:
        parser.error("name the program after --")
    if os.getpgrp() != os.getpid():
        os.setpgrp()  # whom we end must be ours alone
    try:
        listening = socket.create_server(("127.0.0.1", options.port))
    except OSError as wrong:
        print(f"cannot listen on port {options.port}: {wrong.strerror}", file=sys.stderr)
        return 1
    inner = free_port()
    with listening:
        guarded = [*program, f"{options.tell}{inner}"]
        return asyncio.run(_guard(guarded, listening, inner, options.idle_seconds))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
