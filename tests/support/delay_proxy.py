"""A TCP proxy on 127.0.0.1 that is as unkind as a long way: slow to answer, and cut at a byte.

    with Proxy(port, delay_s=0.1) as proxy: ...      in this process
    python delay_proxy.py PORT DELAY_S               its own; prints its port, ends with its input

It delays what passes by a time each way (twice that is the round trip) and does not limit how much:
what limits a transfer then is how much its two ends let be on the way.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
import threading
import time
from collections import deque
from types import TracebackType
from typing import Self

_CHUNK_BYTES = 1 << 18
_MOST_ON_THE_WAY_BYTES = 1 << 26


class Proxy:
    """Passes connections on to a port of this machine.

    delay_s  each way
    """

    def __init__(self, port: int, *, delay_s: float = 0.0) -> None:
        self._to = port
        self._delay_s = delay_s
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._left: list[int | None] = [None, None]
        self.passed = [0, 0]
        """Bytes that went up, and down."""
        self.cuts = 0

    @property
    def port(self) -> int:
        """Where to connect instead."""
        return int(self._listener.getsockname()[1])

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def cut_after(self, *, up: int | None = None, down: int | None = None) -> None:
        """Reset every connection once so many more bytes have passed in one direction."""
        with self._lock:
            self._left = [up, down]

    def cut(self) -> None:
        """Reset every connection now."""
        with self._lock:
            self._left = [None, None]
            self.cuts += 1
            for victim in self._open:
                with contextlib.suppress(OSError):
                    # Closing without lingering resets: nothing more arrives.
                    victim.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    victim.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", self._to))
            except OSError:
                near.close()
                continue
            with self._lock:
                self._open |= {near, far}
            threading.Thread(target=self._pass_on, args=(near, far), daemon=True).start()

    def _pass_on(self, near: socket.socket, far: socket.socket) -> None:
        threads = []
        for way, (source, target) in enumerate(((near, far), (far, near))):
            source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            line = _Line(self, way, source, target, self._delay_s)
            threads += [threading.Thread(target=do, daemon=True) for do in (line.read, line.write)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with self._lock:
            self._open -= {near, far}
        near.close()
        far.close()

    def allowed(self, way: int, count: int) -> int:
        """How many of these bytes may still pass."""
        with self._lock:
            left = self._left[way]
            allowed = count if left is None else min(left, count)
            if left is not None:
                self._left[way] = left - allowed
            self.passed[way] += allowed
            return allowed


class _Line:
    """One direction of a connection: what is read comes out a while later."""

    def __init__(
        self, proxy: Proxy, way: int, source: socket.socket, target: socket.socket, delay_s: float
    ) -> None:
        self._proxy = proxy
        self._way = way
        self._source = source
        self._target = target
        self._delay_s = delay_s
        self._changed = threading.Condition()
        self._waiting: deque[tuple[float, bytes]] = deque()
        self._waiting_bytes = 0

    def read(self) -> None:
        """Take what comes, until the end."""
        chunk = b"-"
        while chunk:
            try:
                chunk = self._source.recv(_CHUNK_BYTES)
            except OSError:
                chunk = b""
            with self._changed:
                self._changed.wait_for(lambda: self._waiting_bytes < _MOST_ON_THE_WAY_BYTES)
                self._waiting.append((time.monotonic() + self._delay_s, chunk))
                self._waiting_bytes += len(chunk)
                self._changed.notify_all()

    def write(self) -> None:
        """Pass on what is due."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                due, chunk = self._waiting.popleft()
                self._waiting_bytes -= len(chunk)
                self._changed.notify_all()
            time.sleep(max(0.0, due - time.monotonic()))
            allowed = self._proxy.allowed(self._way, len(chunk))
            try:
                self._target.sendall(chunk[:allowed])
                if allowed < len(chunk):
                    self._proxy.cut()
                if not chunk:
                    self._target.shutdown(socket.SHUT_WR)
                    return
            except OSError:
                with contextlib.suppress(OSError):
                    self._source.shutdown(socket.SHUT_RDWR)
                return


def main() -> None:
    """Be a proxy as long as somebody holds our input."""
    with Proxy(int(sys.argv[1]), delay_s=float(sys.argv[2])) as proxy:
        print(proxy.port, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
