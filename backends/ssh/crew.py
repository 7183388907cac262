"""Several channels that work through one list of requests, each taking the next one when it can.

One channel carries some 10 MB/s where an answer takes 200 ms, because ssh lets 2 MiB be on their
way; several channels of the same connection carry as many times more.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from types import TracebackType
from typing import Protocol, Self

from backends.errors import FtlaunchError
from backends.protocol import Progress
from backends.ssh.frames import PART_BYTES, Buffer, Channel, Frame, Header
from backends.ssh.host import Host

_ON_THE_WAY_BYTES = PART_BYTES
"""Of one channel, sent or asked for and not yet answered. It is kept busy with that and the part
that goes beyond; more, and the channels that open first leave nothing for the last ones."""
_ON_THE_WAY = 32
_LEAST = 2
_OPENED_S = 0.05
"""One channel more for each of these that the first took to open, so that all carry some 80 MB/s.
Nearby a third one only costs the time of its start."""
_TELL_S = 0.1


@dataclass(frozen=True)
class Moved:
    """What really crossed the wire: files, of which at least a part did, and bytes of content."""

    files: int
    bytes: int

    def __add__(self, other: Moved) -> Moved:
        return Moved(self.files + other.files, self.bytes + other.bytes)


class Unit(Protocol):
    """A request and what becomes of its answer. Both are called by the same thread."""

    @property
    def size_bytes(self) -> int:
        """How much content goes either way."""

    def request(self) -> tuple[Header, Sequence[Buffer]]:
        """What to send."""

    def answered(self, answer: Frame) -> None:
        """What has come back."""


class Meter:
    """Counts what crosses the wire and tells of it, not more often than one can look."""

    def __init__(self, what: str, told: Progress) -> None:
        self._what = what
        self._told = told
        self._lock = threading.Lock()
        self._files: set[str] = set()
        self._bytes = 0
        self._done = 0
        self._total = 0
        self._next_s = 0.0

    def begin(self, total_bytes: int) -> None:
        """An attempt at so many bytes: how much of them is done is counted anew."""
        with self._lock:
            self._done, self._total = 0, total_bytes

    def settled(self, count: int) -> None:
        """So many bytes need not be sent."""
        with self._lock:
            self._done += count
            self._tell()

    def moved(self, path: str, count: int) -> None:
        """So many bytes of a file have been sent."""
        with self._lock:
            self._files.add(path)
            self._bytes += count
            self._done += count
            self._tell()

    @property
    def result(self) -> Moved:
        """All that was sent, in all attempts."""
        with self._lock:
            return Moved(len(self._files), self._bytes)

    def _tell(self) -> None:
        now, all_done = time.monotonic(), self._done >= self._total
        if all_done or now >= self._next_s:
            self._next_s = now + _TELL_S
            self._told(self._what, done=min(self._done, self._total), total=self._total)


class Crew:
    """A first channel, open as long as the crew, and others that join it where there is work."""

    def __init__(self, host: Host, root: PurePosixPath, channels: int) -> None:
        self._host = host
        self._root = root
        self._most = channels
        self.first = Channel(host, root)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.first.close()

    def alone(self, units: Iterable[Unit]) -> None:
        """Have the first channel do some requests, in order."""
        _work(self.first, _Shared(iter(units)))

    def all(self, units: Iterator[Unit], size_bytes: int) -> None:
        """Have all channels do some requests. The first failure of any ends all, and is raised."""
        work = _Shared(units)
        useful = max(_LEAST, math.ceil(self.first.opened_s / _OPENED_S))
        wanted = min(self._most, useful, 1 + size_bytes // PART_BYTES)
        others = [_Other(self._host, self._root, work, self.first) for _ in range(wanted - 1)]
        try:
            for other in others:
                other.start()
            _work(self.first, work)
            for other in others:
                other.join()
        except BaseException as error:  # noqa: BLE001 - raised below, when all have ended
            work.fail(error)
            for other in others:
                other.kill()
        finally:
            for other in others:
                other.join()
        if work.failure is not None:
            raise work.failure


class _Shared:
    """The requests that are left, for several to take from; and the first failure of any."""

    def __init__(self, units: Iterator[Unit]) -> None:
        self._units = units
        self._lock = threading.Lock()
        self.failure: BaseException | None = None

    def take(self) -> Unit | None:
        """The next; None when there are no more, or it makes no sense to go on."""
        with self._lock:
            return None if self.failure is not None else next(self._units, None)

    def fail(self, error: BaseException) -> None:
        """Only the first counts: the others are its consequences."""
        if self.failure is None:
            self.failure = error


class _Other(threading.Thread):
    """One more channel. That it cannot be opened is no failure: the rest do its work."""

    def __init__(self, host: Host, root: PurePosixPath, work: _Shared, first: Channel) -> None:
        super().__init__(daemon=True, name="transfer")
        self._host = host
        self._root = root
        self._work = work
        self._first = first
        self._channel: Channel | None = None

    def run(self) -> None:
        try:
            channel = self._channel = Channel(self._host, self._root)
        except (FtlaunchError, OSError):
            return
        with channel:
            try:
                _work(channel, self._work)
            except BaseException as error:  # noqa: BLE001 - raised by the one who waits for all
                self._work.fail(error)
                self._first.kill()

    def kill(self) -> None:
        """Have it end soon."""
        if self._channel is not None:
            self._channel.kill()


def _work(channel: Channel, work: _Shared) -> None:
    """Take requests while there are any, keeping some on their way."""
    waiting: deque[Unit] = deque()
    on_the_way = 0
    while True:
        unit = work.take()
        if unit is not None:
            header, content = unit.request()
            channel.send(header, *content)
            waiting.append(unit)
            on_the_way += unit.size_bytes
            del header, content
        while waiting and (
            unit is None or on_the_way > _ON_THE_WAY_BYTES or len(waiting) > _ON_THE_WAY
        ):
            oldest = waiting.popleft()
            oldest.answered(channel.receive())
            on_the_way -= oldest.size_bytes
        if unit is None:
            return
