"""The far side of caches: folders on this machine that many jobs share, filled by one at a time.

One file on the standard library, for Python 3.9 and later; sent with every request over standard
input, like `place.py`. CACHES may be a disk that several machines share:
    KEY/tree/          the files; they come by `backends.ssh.sync`
    KEY/complete.json  their sizes and times, written last: without it the cache is not there
    KEY.lock/          whoever fills it; a folder, since not every shared disk has locks that work
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import stat
import sys
import time
from typing import Any, Callable, Dict, List, Optional

Answer = Dict[str, Any]

COMPLETE = b"complete.json"
BEAT_S = 5.0  # between two signs of life of one who fills a cache


def raw(text: str) -> bytes:
    """A name as the bytes it stands for."""
    return text.encode("utf-8", "surrogateescape")


def write_private(path: bytes, content: bytes) -> None:
    """Replace a file by rename; only its owner reads it."""
    temporary = b"%s.%s" % (path, os.urandom(4).hex().encode())
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(temporary, flags, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def private(folder: bytes) -> None:
    """A folder that only its owner enters, made with those above it that are missing."""
    if not os.path.isdir(folder):
        private(os.path.dirname(folder))
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, 0o700)


def held(folder: bytes) -> bool:
    """Whether a cache is here, whole, and as it was when it was completed."""
    try:
        with open(os.path.join(folder, COMPLETE), "rb") as file:
            stamps = json.loads(file.read())["files"]
        return all(stamp(folder, path) == [path, size, at] for path, size, at in stamps)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def stamp(folder: bytes, path: str) -> List[Any]:
    """A file of a cache: its path, its size, its time."""
    seen = os.lstat(os.path.join(folder, b"tree", raw(path)))
    return [path, seen.st_size if stat.S_ISREG(seen.st_mode) else -1, seen.st_mtime_ns]


def look(request: Answer) -> Answer:
    """Which of the `keys` are not here."""
    caches = raw(request["cache_root"])
    keys = request["keys"]
    return {"missing": [key for key in keys if not held(os.path.join(caches, raw(key)))]}


def fill(request: Answer) -> Answer:
    """Be the only one who fills a cache, for as long as the other side gives signs of life.

    Says `waiting` now and then while another has it, then `complete` when there is nothing left to
    do, or `claimed`. After that it reads lines: an empty one is a sign of life; one of JSON names
    the files that were brought, and is answered by `sealed` or `incomplete`.
    """
    folder = os.path.join(raw(request["cache_root"]), raw(request["key"]))
    claim = Claim(folder + b".lock", raw(request["token"]), request["expiry_s"])
    private(os.path.dirname(folder))
    lines = Lines(request["patience_s"])
    while not held(folder):
        if claim.take():
            return filling(folder, claim, lines)
        say("waiting")
        if lines.next(BEAT_S / 5) is None:
            return {"is": "left alone"}
    return {"is": "complete"}


def filling(folder: bytes, claim: Claim, lines: Lines) -> Answer:
    """The claim is ours: keep it until all is said or the other side is silent."""
    try:
        private(os.path.join(folder, b"tree"))
        say("claimed")
        while claim.renew():
            line = lines.next(min(BEAT_S, lines.patience_s))
            if line is None:
                return {"is": "left alone"}
            if line:
                return {"is": "sealed" if seal(folder, json.loads(line)) else "incomplete"}
        return {"is": "lost"}
    finally:
        claim.give_up()


def seal(folder: bytes, files: List[Any]) -> bool:
    """Mark a cache as complete; False when not all of it is here."""
    try:
        there = [stamp(folder, path) for path, _ in files]
    except OSError:
        return False
    if [entry[:2] for entry in there] != files:
        return False
    write_private(
        os.path.join(folder, COMPLETE), json.dumps({"schema": 1, "files": there}).encode()
    )
    return True


class Claim:
    """A lock that works on a disk without locks: a folder is made by one alone.

    Who gave no sign of life for `expiry_s` has lost it. Times are compared on the disk's own clock,
    for those of two machines may differ. Two who hold it after all send the same bytes twice.
    """

    def __init__(self, lock: bytes, token: bytes, expiry_s: float) -> None:
        self._lock = lock
        self._mine = os.path.join(lock, token)
        self._token = token
        self._expiry_s = expiry_s

    def take(self) -> bool:
        """Whether it is ours now; one that has expired is cleared away, for the next try."""
        try:
            os.mkdir(self._lock, 0o700)
        except FileExistsError:
            with contextlib.suppress(FileNotFoundError):
                self._clear_if_expired()
            return False
        try:
            os.close(os.open(self._mine, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except FileNotFoundError:  # taken aside by one who still meant the claim before this one
            return False
        return True

    def _clear_if_expired(self) -> None:
        before = os.listdir(self._lock)
        signs = [self._lock, *(os.path.join(self._lock, name) for name in before)]
        newest = max(os.stat(path).st_mtime for path in signs)
        if self._disk_time() - newest <= self._expiry_s:
            return
        aside = b"%s.%s" % (self._lock, self._token)
        os.rename(self._lock, aside)
        if os.listdir(aside) != before:  # somebody else was quicker, and this claim lives
            with contextlib.suppress(OSError):
                os.rename(aside, self._lock)
        shutil.rmtree(aside, ignore_errors=True)

    def _disk_time(self) -> float:
        probe = b"%s.clock.%s" % (self._lock, self._token)
        try:
            os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
            os.utime(probe)
            return os.stat(probe).st_mtime
        finally:
            with contextlib.suppress(OSError):
                os.unlink(probe)

    def renew(self) -> bool:
        """Give a sign of life; False when another has taken it."""
        try:
            os.utime(self._mine)
        except FileNotFoundError:
            return False
        return True

    def give_up(self) -> None:
        """Let go of it, if it is still ours."""
        with contextlib.suppress(OSError):
            os.unlink(self._mine)
            os.rmdir(self._lock)


class Lines:
    """Lines of standard input, past what Python itself has read ahead."""

    def __init__(self, patience_s: float) -> None:
        self.patience_s = patience_s
        self._last = time.monotonic()
        self._rest = b""

    def next(self, longest_s: float) -> Optional[bytes]:
        """A line; b"" for an empty one or none in that time; None when the other side is gone."""
        until = time.monotonic() + longest_s
        while b"\n" not in self._rest:
            if not select.select([0], [], [], max(0.0, until - time.monotonic()))[0]:
                return b"" if time.monotonic() - self._last < self.patience_s else None
            piece = os.read(0, 1 << 16)
            if not piece:
                return None
            self._last = time.monotonic()
            self._rest += piece
        found, _, self._rest = self._rest.partition(b"\n")
        return found


def say(what: str) -> None:
    """One line to the other side."""
    sys.stdout.write(json.dumps({"is": what}) + "\n")
    sys.stdout.flush()


COMMANDS: Dict[str, Callable[[Answer], Answer]] = {"look": look, "fill": fill}


def main(argv: List[str]) -> int:
    """Do one command."""
    request = json.loads(sys.stdin.buffer.readline())
    with contextlib.suppress(OSError):
        os.utime(os.path.join(request["root"], "watch", "seen"))
    try:
        answer = COMMANDS[argv[0]](request)
    except OSError as error:
        answer = {"error": str(error), "errno": error.errno}
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
