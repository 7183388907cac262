"""The far side of `sync`: takes files, gives files, says what is there.

One file on the standard library, for Python 3.9 and later; it comes over standard input in front of
the first request, like `place.py`, and ends with it. Several run at once for one transfer.

    frame    length of the header, length of the content (both 32 bits, big-endian), header, content
    header   a JSON object; `do` names the request, and each is answered in turn
    path     relative to the root of the request `hello`; odd bytes as lone surrogates

A file comes in parts of PART bytes; one that has a single part comes together with others. It is
put together beside the root, in the folder STATE, and takes its name when it is whole:
    STATE/root     which root this is about
    STATE/stamps   path, size, times, inode and sha256 of files that were whole: not read again
    STATE/KEY      a file that has begun;  STATE/KEY.have  number and sha256 of the parts it has
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import select
import shutil
import stat
import struct
import sys
import time
from typing import Any, Dict, Iterator, List, NoReturn, Optional, Set, Tuple

Header = Dict[str, Any]
Stamp = List[int]

PART = 8 << 20
CHUNK = 1 << 20
WRITE = 1 << 18  # a GiB takes 0.2 s in such pieces, 2.2 s in 8 MiB ones: Linux 6.18, ext4, a guest
LARGEST = 1 << 28  # of what is read before it is believed
LENGTHS = struct.Struct(">II")
SILENCE_S = 3600.0  # one who sends nothing for so long is gone
POLL_S = 0.1
BEAT_S = 15.0  # between signs of life to one who follows a file
STALE_S = 3600.0
ROWS = 5000


class Refused(Exception):
    """This request cannot be met; the sentence goes to the one who asked."""


class Wire:
    """Frames over two descriptors."""

    def __init__(self, source: int, target: int) -> None:
        self.source = source
        self.target = target
        self._buffer = bytearray()

    def receive(self) -> Optional[Tuple[Header, memoryview]]:
        """The next frame; None when there is none. The content is good until the next call."""
        lengths = self._take(LENGTHS.size)
        if lengths is None:
            return None
        for_header, for_content = LENGTHS.unpack(lengths)
        if max(for_header, for_content) > LARGEST:
            sys.exit("a frame of %d + %d bytes" % (for_header, for_content))
        header = self._take(for_header)
        if header is None:
            return None
        found = json.loads(bytes(header))
        content = self._take(for_content)
        return None if content is None else (found, content)

    def _take(self, count: int) -> Optional[memoryview]:
        if len(self._buffer) < count:
            self._buffer = bytearray(count)
        view = memoryview(self._buffer)[:count]
        have = 0
        while have < count:
            if not select.select([self.source], [], [], SILENCE_S)[0]:
                return None
            got = os.readv(self.source, [view[have:]])
            if not got:
                return None
            have += got
        return view

    def send(self, header: Header, *content: Any) -> None:
        """One frame; returns when it has gone."""
        head = json.dumps(header, separators=(",", ":")).encode("ascii")
        lengths = LENGTHS.pack(len(head), sum(len(piece) for piece in content))
        for piece in (lengths + head, *content):
            view = memoryview(piece)
            while view:
                view = view[os.write(self.target, view) :]

    def hears(self, within_s: float) -> bool:
        """Whether something (perhaps the end) can be received."""
        return bool(select.select([self.source], [], [], within_s)[0])


class Far:
    """One who sends requests, and the folder they are about."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.root = b""
        self.state = b""
        self._folders: Set[bytes] = set()
        self._known: Optional[Dict[str, List[Any]]] = None
        self._prepared = False
        self._count = 0

    def answer(self, header: Header, content: memoryview) -> None:
        """Do what is asked."""
        do = header["do"]
        if do not in REQUESTS:
            raise Refused("there is no request %r" % do)
        getattr(self, do)(header, content)

    def hello(self, header: Header, _content: memoryview) -> None:
        """root: the folder that all paths are relative to. Not answered."""
        self.root = raw(header["root"])
        self.state = raw(header["state"])

    # ── taking files ──────────────────────────────────────────────────────────────────────────

    def want(self, header: Header, _content: memoryview) -> None:
        """Which of `files` are not here: their numbers, each with its missing parts (None: all)."""
        if not self._prepared:
            self._prepare()
        wanted: List[List[Any]] = []
        found: List[List[Any]] = []
        for number, (path, size, executable, digest) in enumerate(header["files"]):
            target = self._target(path)
            row = self._kept(path, target, size, digest)
            if row is None:
                missing = None if size <= PART else self._missing(path, size, digest)
                wanted.append([number, missing])
                continue
            mode = 0o700 if executable else 0o600
            if stat.S_IMODE(os.lstat(target).st_mode) != mode:
                os.chmod(target, mode)
                row = stamp(path, target, digest)
            if row != self._stamps().get(path):
                found.append(row)
        self._note(found)
        self.wire.send({"want": wanted})

    def put(self, header: Header, content: memoryview) -> None:
        """Whole files, one after the other in the content."""
        rows, at = [], 0
        for path, size, executable, digest in header["files"]:
            piece = content[at : at + size]
            at += size
            require(piece, digest, path)
            partial = self._partial()
            try:
                write_new(partial, piece, 0o700 if executable else 0o600)
                target = self._target(path)
                take_name(partial, target)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(partial)
                raise
            rows.append(stamp(path, target, digest))
        self._note(rows)
        self.wire.send({"put": len(rows)})

    def part(self, header: Header, content: memoryview) -> None:
        """One part of a file."""
        path, size, _, digest = header["file"]
        require(content, header["sha256"], path)
        begun = self._begun(path, size, digest)
        with journal(begun) as have:
            partial = os.open(begun, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                write_at(partial, content, header["at"] * PART)
            finally:
                os.close(partial)
            os.write(have, b"%d %s\n" % (header["at"], header["sha256"].encode()))
        self.wire.send({"put": 1})

    def finish(self, header: Header, _content: memoryview) -> None:
        """Files whose parts have all been sent; for each, those of its parts that are not here."""
        missing: List[List[int]] = []
        rows = []
        for (path, size, executable, digest), parts in header["files"]:
            target = self._target(path)
            begun = self._begun(path, size, digest)
            with journal(begun) as have:
                held = noted(have)
                lost = [number for number, sha256 in enumerate(parts) if held.get(number) != sha256]
                if not lost:
                    os.truncate(begun, size)
                    os.chmod(begun, 0o700 if executable else 0o600)
                    take_name(begun, target)
                    rows.append(stamp(path, target, digest))
                elif self._kept(path, target, size, digest):
                    lost = []  # another one who sent the same was faster
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(begun)
                if not lost:
                    os.unlink(begun + b".have")
                else:  # of a file that was changed while it was sent before: not to be kept
                    note_only(have, {n: held[n] for n in held if n not in lost})
            missing.append(lost)
        self._note(rows)
        self.wire.send({"missing": missing})

    def _prepare(self) -> None:
        """Root and state folder, made; what others left beside it long ago, removed."""
        private(self.root)
        if not os.path.isdir(self.root) or os.path.islink(self.root):
            raise Refused("%s is not a folder" % said(self.root))
        private(self.state)
        name = os.path.join(self.state, b"root")
        if not os.path.exists(name):
            write_new(self._partial(), self.root, 0o600, rename_to=name)
        self._prepared = True
        now = time.time()
        for entry in os.scandir(os.path.dirname(self.state)):
            with contextlib.suppress(OSError):
                with open(os.path.join(entry.path, b"root"), "rb") as file:
                    root = file.read()
                if not os.path.lexists(root) and now - entry.stat().st_mtime > STALE_S:
                    shutil.rmtree(entry.path)
        for entry in os.scandir(self.state):
            with contextlib.suppress(OSError):
                if entry.name.startswith(b"new.") and now - entry.stat().st_mtime > STALE_S:
                    os.unlink(entry.path)

    def _target(self, path: str) -> bytes:
        """Where a file goes. Its folders are made, and none of them may be a link."""
        relative = inside(path)
        self._make(os.path.dirname(relative))
        return os.path.join(self.root, relative)

    def _make(self, relative: bytes) -> None:
        if not relative or relative in self._folders:
            return
        self._make(os.path.dirname(relative))
        folder = os.path.join(self.root, relative)
        try:
            os.mkdir(folder, 0o700)
        except FileExistsError:
            if not stat.S_ISDIR(os.lstat(folder).st_mode):
                raise Refused("%s is not a folder" % said(folder)) from None
        self._folders.add(relative)

    def _partial(self) -> bytes:
        self._count += 1
        return os.path.join(self.state, b"new.%d.%d" % (os.getpid(), self._count))

    def _begun(self, path: str, size: int, digest: str) -> bytes:
        key = hashlib.sha256(("%d %s %s" % (size, digest, path)).encode("utf-8", "surrogateescape"))
        return os.path.join(self.state, key.hexdigest()[:32].encode())

    def _missing(self, path: str, size: int, digest: str) -> Optional[List[int]]:
        """The parts of a file that has begun which are not here as noted; None when it has not."""
        begun = self._begun(path, size, digest)
        if not os.path.exists(begun):
            return None
        with journal(begun) as have, open(begun, "rb") as file:
            held = noted(have)
            right = {}
            for number in sorted(held):
                if held[number] == digest_of(file, number * PART, PART):
                    right[number] = held[number]
            note_only(have, right)
        return [number for number in range(-(-size // PART)) if number not in right]

    def _kept(self, path: str, target: bytes, size: int, digest: str) -> Optional[List[Any]]:
        """The stamp of a file that is here with this content, else None."""
        try:
            status = os.lstat(target)
        except FileNotFoundError:
            return None
        if not stat.S_ISREG(status.st_mode) or status.st_size != size:
            return None
        known = self._stamps().get(path)
        if known is not None and known[1:-1] == signs(status):
            return known if known[-1] == digest else None
        with open(target, "rb") as file:
            content = digest_of(file, 0, size)
        if signs(os.lstat(target)) != signs(status):
            return None
        row = [path, *signs(status), content]
        return row if content == digest else None

    def _stamps(self) -> Dict[str, List[Any]]:
        """What is known of files, as of the first time it was asked."""
        if self._known is None:
            self._known, count = {}, 0
            name = os.path.join(self.state, b"stamps")
            with contextlib.suppress(FileNotFoundError), open(name, "rb") as file:
                for line in file:
                    count += 1
                    with contextlib.suppress(ValueError, IndexError):
                        row = json.loads(line)
                        self._known[row[0]] = row
            if count > 2 * len(self._known) + 1000:
                write_new(self._partial(), lines(self._known.values()), 0o600, rename_to=name)
        return self._known

    def _note(self, rows: List[List[Any]]) -> None:
        """Remember files. A line that a crash or a neighbour tore is passed over by the reader."""
        if rows:
            name = os.path.join(self.state, b"stamps")
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            file = os.open(name, flags, 0o600)
            try:
                os.write(file, lines(rows))
            finally:
                os.close(file)

    # ── giving files ──────────────────────────────────────────────────────────────────────────

    def stat(self, header: Header, _content: memoryview) -> None:
        """Size, time and inode of each file; None for what is no file. Links are followed."""
        found: List[Optional[Stamp]] = []
        for path in header["paths"]:
            try:
                with opened(self.root, path) as file:
                    found.append(mark(file))
            except (OSError, ValueError, Refused) as error:
                if getattr(error, "errno", None) == errno.EACCES:
                    raise
                found.append(None)
        self.wire.send({"files": found})

    def get(self, header: Header, _content: memoryview) -> None:
        """Pieces of files: for each its length, sha256, and the file's marks before and after.

        None for a file that is gone. The sha256 is "" where it is `unchecked`: one who knows the
        digest of the whole needs no other.
        """
        rows: List[Optional[List[Any]]] = []
        pieces = []
        for path, offset, length in header["files"]:
            try:
                with opened(self.root, path) as file:
                    before = mark(file)
                    piece = read_at(file, offset, length)
                    after = mark(file)
            except (FileNotFoundError, NotADirectoryError):
                rows.append(None)
                continue
            digest = "" if header["unchecked"] else hashlib.sha256(piece).hexdigest()
            rows.append([len(piece), digest, before, after])
            pieces.append(piece)
        self.wire.send({"files": rows}, *pieces)

    def digests(self, header: Header, _content: memoryview) -> None:
        """For each of some files the sha256 of some of its parts; None for a file that is gone."""
        rows: List[Optional[List[str]]] = []
        for path, parts in header["files"]:
            try:
                with opened(self.root, path) as file:
                    rows.append([digest_of(file, number * PART, PART) for number in parts])
            except (FileNotFoundError, NotADirectoryError):
                rows.append(None)
        self.wire.send({"digests": rows})

    def list(self, _header: Header, _content: memoryview) -> None:
        """Every regular file with its size, some thousand to a frame; links are passed over."""
        if not os.path.isdir(self.root):
            raise FileNotFoundError(errno.ENOENT, "there is no such folder", said(self.root))
        rows: List[List[Any]] = []
        for path, size in regular_files(self.root, b""):
            rows.append([text(path), size])
            if len(rows) == ROWS:
                self.wire.send({"files": rows, "more": True})
                rows = []
        self.wire.send({"files": rows, "more": False})

    def read(self, header: Header, _content: memoryview) -> None:
        """A file's bytes from `offset` on; with `follow` until the other side hangs up."""
        offset, beat = header["offset"], time.monotonic()
        with opened(self.root, header["path"]) as file:
            while True:
                piece = read_at(file, offset, CHUNK)
                if piece:
                    self.wire.send({"end": False}, piece)
                    offset += len(piece)
                elif not header["follow"]:
                    self.wire.send({"end": True})
                    return
                elif self.wire.hears(POLL_S):
                    return
                elif time.monotonic() - beat > BEAT_S:
                    self.wire.send({"end": False})
                else:
                    continue
                beat = time.monotonic()


REQUESTS = {"hello", "want", "put", "part", "finish", "stat", "get", "digests", "list", "read"}


# ── names ─────────────────────────────────────────────────────────────────────────────────────────


def raw(name: str) -> bytes:
    """A name as the bytes it stands for."""
    return name.encode("utf-8", "surrogateescape")


def text(name: bytes) -> str:
    """The other way round."""
    return name.decode("utf-8", "surrogateescape")


def said(name: bytes) -> str:
    """A name as it can be printed anywhere."""
    return repr(name.decode("utf-8", "backslashreplace"))


def inside(path: str) -> bytes:
    """A path that stays below the root, whatever it is."""
    found = raw(path)
    if not found or b"\0" in found or not set(found.split(b"/")).isdisjoint({b"", b".", b".."}):
        raise Refused("%s is no place in a folder" % said(found))
    return found


# ── files ─────────────────────────────────────────────────────────────────────────────────────────


def private(folder: bytes) -> None:
    """A folder that only its owner enters, made with those above it that are missing."""
    if not os.path.isdir(folder):
        private(os.path.dirname(folder))
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, 0o700)


def write_at(file: int, content: Any, offset: int) -> None:
    """All of it: a write may take less."""
    view = memoryview(content)
    while view:
        count = os.pwrite(file, view[:WRITE], offset)
        offset += count
        view = view[count:]


def write_new(path: bytes, content: Any, mode: int, *, rename_to: Optional[bytes] = None) -> None:
    """A new file, whole or not there."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        write_at(file, content, 0)
    finally:
        os.close(file)
    if rename_to is not None:
        os.rename(path, rename_to)


def take_name(partial: bytes, target: bytes) -> None:
    """The file is whole: it goes to its place."""
    try:
        os.rename(partial, target)
    except IsADirectoryError:
        raise Refused("%s is a folder, where a file should come" % said(target)) from None


@contextlib.contextmanager
def opened(root: bytes, path: str) -> Iterator[int]:
    """A regular file for reading; a pipe is not waited for."""
    name = os.path.join(root, inside(path))
    file = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise FileNotFoundError(errno.ENOENT, "is not a file", said(name))
        yield file
    finally:
        os.close(file)


def read_at(file: int, offset: int, length: int) -> bytes:
    """As much of that as the file has."""
    pieces = []
    while length:
        piece = os.pread(file, length, offset)
        if not piece:
            break
        pieces.append(piece)
        offset += len(piece)
        length -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def digest_of(file: Any, offset: int, length: int) -> str:
    """The sha256 of a piece of a file."""
    number = file if isinstance(file, int) else file.fileno()
    found = hashlib.sha256()
    while length:
        piece = os.pread(number, min(CHUNK, length), offset)
        if not piece:
            break
        found.update(piece)
        offset += len(piece)
        length -= len(piece)
    return found.hexdigest()


def regular_files(root: bytes, below: bytes) -> Iterator[Tuple[bytes, int]]:
    """Path and size of every regular file; what vanishes meanwhile is passed over."""
    folders = [below]
    while folders:
        folder = folders.pop()
        with contextlib.suppress(FileNotFoundError, PermissionError):
            for entry in os.scandir(os.path.join(root, folder)):
                name = os.path.join(folder, entry.name)
                with contextlib.suppress(FileNotFoundError):
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(name)
                    elif entry.is_file(follow_symlinks=False):
                        yield name, entry.stat(follow_symlinks=False).st_size


# ── what is remembered of files ───────────────────────────────────────────────────────────────────


def signs(status: os.stat_result) -> List[int]:
    """What differs once a file has been written to again."""
    return [status.st_size, status.st_mtime_ns, status.st_ino, status.st_ctime_ns]


def stamp(path: str, target: bytes, digest: str) -> List[Any]:
    """What to remember of a file that has just been put in its place."""
    return [path, *signs(os.lstat(target)), digest]


def mark(file: int) -> Stamp:
    """What tells one who fetches that a file is still the same."""
    status = os.fstat(file)
    return [status.st_size, status.st_mtime_ns, status.st_ino]


def lines(rows: Any) -> bytes:
    """One line of JSON for each."""
    return b"".join(json.dumps(row).encode("ascii") + b"\n" for row in rows)


def require(content: memoryview, digest: str, path: str) -> None:
    """Nothing is kept that is not what it is said to be."""
    if hashlib.sha256(content).hexdigest() != digest:
        raise Refused("%s was damaged on its way" % said(raw(path)))


@contextlib.contextmanager
def journal(begun: bytes) -> Iterator[int]:
    """The list of the parts of a file that has begun; whoever holds it is alone with both."""
    name = begun + b".have"
    while True:
        file = os.open(name, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            if is_at(file, name):
                yield file
                return
        finally:
            os.close(file)


def is_at(file: int, name: bytes) -> bool:
    """False when it was removed while its lock was waited for."""
    try:
        return os.path.samestat(os.stat(name), os.fstat(file))
    except FileNotFoundError:
        return False


def noted(have: int) -> Dict[int, str]:
    """Number and sha256 of the parts in a journal; the last word counts."""
    found = {}
    for line in read_at(have, 0, os.fstat(have).st_size).split(b"\n"):
        number, _, digest = line.partition(b" ")
        if number.isdigit() and len(digest) == 64:
            found[int(number)] = digest.decode()
    return found


def note_only(have: int, parts: Dict[int, str]) -> None:
    """Have just these in a journal."""
    os.ftruncate(have, 0)
    for number, sha256 in parts.items():
        os.write(have, b"%d %s\n" % (number, sha256.encode()))


def main() -> NoReturn:
    """Answer requests until there are no more."""
    os.umask(0o077)
    wire = Wire(0, 1)
    far = Far(wire)
    while True:
        frame = wire.receive()
        if frame is None:
            sys.exit(0)
        try:
            far.answer(*frame)
        except BrokenPipeError:
            sys.exit(0)
        except OSError as error:
            name = error.filename
            where = said(name) if isinstance(name, bytes) else str(name or "")
            words = "%s: %s" % (where, error.strerror) if where else str(error.strerror)
            wire.send({"error": words, "errno": errno.errorcode.get(error.errno or 0, "")})
        except Refused as error:
            wire.send({"error": str(error), "errno": ""})


if __name__ == "__main__":
    main()
