"""One file there, read in place; and the names of all."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import PurePosixPath

from backends.errors import Lost
from backends.ssh.errors import SshError
from backends.ssh.frames import Channel, Header, path_text, unreadable
from backends.ssh.host import Host

SILENCE_S = 0.5
RECONNECT = timedelta(minutes=2)
"""For so long a lost connection is tried again, then the reader is told."""


def listing(host: Host, root: PurePosixPath) -> dict[PurePosixPath, int]:
    """See `sync.listing`."""
    found: dict[PurePosixPath, int] = {}
    with Channel(host, root) as channel:
        channel.send({"do": "list"})
        more = True
        while more:
            header = channel.receive().header
            try:
                for name, size in header["files"]:
                    found[_path(name)] = int(size)
                more = header["more"] is True
            except (KeyError, TypeError, ValueError) as error:
                raise unreadable() from error
    return found


def _path(name: str) -> PurePosixPath:
    """A name from there, as this machine writes it. The far end is not trusted: it stays inside."""
    path = PurePosixPath(os.fsdecode(name.encode("utf-8", "surrogateescape")))
    if path.is_absolute() or ".." in path.parts:
        raise unreadable()
    return path


def read(
    host: Host, root: PurePosixPath, path: PurePosixPath, *, offset: int, follow: bool
) -> Iterator[bytes]:
    """See `sync.read`."""
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise Lost(f"{str(path)!r} is not inside the run directory")
    reader = _Reader(host, root, path, offset, follow)
    try:
        reader.start()
        while True:
            try:
                chunk = reader.chunks.get(timeout=SILENCE_S if follow else None)
            except queue.Empty:
                yield b""
                continue
            if chunk is None:
                break
            yield chunk
    finally:
        reader.stop()
    if reader.failure is not None:
        raise reader.failure


class _Reader(threading.Thread):
    """Reads in the background: connecting anew takes longer than a follower should wait for a sign.

    `chunks` ends with None; `failure` then says why, if it was not the file's end.
    """

    def __init__(
        self, host: Host, root: PurePosixPath, path: PurePosixPath, offset: int, follow: bool
    ) -> None:
        super().__init__(daemon=True, name="reader")
        self.chunks: queue.Queue[bytes | None] = queue.Queue(maxsize=8)
        self.failure: BaseException | None = None
        self._host = host
        self._root = root
        self._request: Header = {
            "do": "read",
            "path": path_text(path),
            "offset": offset,
            "follow": follow,
        }
        self._over = threading.Event()
        self._channel: Channel | None = None
        self._lost_since: float | None = None

    def stop(self) -> None:
        """End it soon; one that is connecting just then ends by itself."""
        self._over.set()
        if self._channel is not None:
            self._channel.kill()

    def run(self) -> None:
        try:
            while not self._over.is_set() and not self._read():
                self._over.wait(SILENCE_S)
        except BaseException as error:  # noqa: BLE001 - raised where the chunks are taken
            self.failure = error
        self._give(None)

    def _read(self) -> bool:
        """True at the end of the file; False when the connection was lost and may come back."""
        try:
            with Channel(self._host, self._root) as channel:
                self._channel = channel
                channel.send(self._request)
                while not self._over.is_set():
                    answer = channel.receive()
                    self._lost_since = None
                    if answer.header.get("end") is True:
                        return True
                    if answer.content:
                        self._request["offset"] += len(answer.content)
                        self._give(bytes(answer.content))
        except SshError as error:
            now = time.monotonic()
            since = self._lost_since = self._lost_since or now
            if not error.transient or now - since > RECONNECT.total_seconds():
                raise
            return False
        return True

    def _give(self, chunk: bytes | None) -> None:
        """Hand it over, unless nobody takes it any more."""
        while not self._over.is_set():
            with contextlib.suppress(queue.Full):
                self.chunks.put(chunk, timeout=SILENCE_S)
                return
