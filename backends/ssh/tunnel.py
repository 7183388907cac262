"""A port of the far end's own loopback, reached through a port of this machine's.

Not ssh's own `-L`: that ends with the connection, and a laptop that slept would have to start
anew. Here each client that connects gets a channel of its own on whatever connection lives then.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
from collections.abc import Callable
from types import TracebackType
from typing import IO

from backends.lease import Address

_CHUNK_BYTES = 1 << 16


class Tunnel:
    """Listens while it is entered; `open_channel` gives a process whose pipes are the far port."""

    def __init__(self, open_channel: Callable[[], subprocess.Popen[bytes]]) -> None:
        self._open_channel = open_channel
        self._listener = socket.socket()
        self._lock = threading.Lock()
        self._living: set[_Passage] = set()
        self._closed = False

    def __enter__(self) -> Address:
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(64)
        host, port = self._listener.getsockname()
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()
        return Address(host, port)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        with self._lock:
            self._closed = True
            living = list(self._living)
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for passage in living:
            passage.end()
        self._accepting.join()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._pass_through, args=(client,), daemon=True).start()

    def _pass_through(self, client: socket.socket) -> None:
        # Whatever goes wrong is the client's to see: its connection ends.
        with client, contextlib.suppress(Exception):
            passage = _Passage(client, self._open_channel())
            with self._lock:
                if self._closed:
                    passage.end()
                self._living.add(passage)
            try:
                passage.run()
            finally:
                with self._lock:
                    self._living.discard(passage)


class _Passage:
    """One client and its channel, each fed with what the other sends."""

    def __init__(self, client: socket.socket, channel: subprocess.Popen[bytes]) -> None:
        self._client = client
        self._channel = channel

    def run(self) -> None:
        """Until the far side has said all; a client that only stops sending may still listen."""
        assert self._channel.stdin is not None
        assert self._channel.stdout is not None
        sending = threading.Thread(target=self._send, args=(self._channel.stdin,), daemon=True)
        sending.start()
        try:
            with contextlib.suppress(OSError):
                while chunk := os.read(self._channel.stdout.fileno(), _CHUNK_BYTES):
                    self._client.sendall(chunk)
        finally:
            self.end()
            sending.join()
            self._channel.stdout.close()

    def end(self) -> None:
        """Stop both directions."""
        with contextlib.suppress(OSError):
            self._client.shutdown(socket.SHUT_RDWR)
        self._channel.kill()
        self._channel.wait()

    def _send(self, channel: IO[bytes]) -> None:
        with contextlib.suppress(OSError):
            while chunk := self._client.recv(_CHUNK_BYTES):
                channel.write(chunk)
                channel.flush()
        with contextlib.suppress(OSError):
            channel.close()
