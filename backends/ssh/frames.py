"""A channel to `far.py`: requests go there as frames, and each is answered in its turn."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import selectors
import shlex
import struct
import subprocess
import tempfile
import time
from pathlib import PurePosixPath
from types import TracebackType
from typing import Any, NamedTuple, Self

from backends.errors import FtlaunchError, Lost, Refused
from backends.ssh import programs
from backends.ssh.errors import Broken
from backends.ssh.host import Host, read_past
from backends.ssh.programs import FarError
from backends.ssh.shell import CONNECT_S, Marker

Header = dict[str, Any]
Buffer = bytes | bytearray | memoryview

PART_BYTES = 8 << 20
"""As `far.PART`: what is sent, checked and continued as one."""
_LARGEST = 1 << 28
_LENGTHS = struct.Struct(">II")
_PIPE_BYTES = 1 << 20
_GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG})
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class Frame(NamedTuple):
    """An answer. The content is good until the channel's next one."""

    header: Header
    content: memoryview


def state_folder(root: PurePosixPath) -> PurePosixPath:
    """Where what is remembered of a root is kept, on the same disk and outside of it.

    It may be removed when the root is. What was not is removed by a later upload beside it.
    """
    digest = hashlib.sha256(os.fsencode(root)).hexdigest()[:32]
    return root.parent / ".sync" / digest


class Channel:
    """One process at the far end, which knows the root all paths are relative to.

    Of one thread at a time, but for `kill`.
    """

    def __init__(self, host: Host, root: PurePosixPath) -> None:
        self._host = host
        self._marker = Marker.new()
        self._greeted = False
        self.opened_s = 0.0
        """Until the far end's shell said its first word: two round trips and the shell's start.
        Known with the first answer."""
        self._content = bytearray()
        command = shlex.join(programs.argv(programs.python_of(host), "far"))
        script = f"{self._marker.printing}; exec {command}"
        with contextlib.ExitStack() as undo:
            self._said = undo.enter_context(tempfile.TemporaryFile())
            self._began_s = time.monotonic()
            self._process = host.spawn(script, stdin=subprocess.PIPE, stderr=self._said)
            undo.callback(self.close)
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._in, self._out = self._process.stdin, self._process.stdout
            for pipe in (self._in, self._out):
                _widen(pipe.fileno())
            self._write(programs.source("far"))
            state = os.fsencode(state_folder(root))
            self.send({"do": "hello", "root": text(os.fsencode(root)), "state": text(state)})
            undo.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    def send(self, header: Header, *content: Buffer) -> None:
        """A request. Raises SshError, or FarError when the far end has given up."""
        head = json.dumps(header, separators=(",", ":")).encode("ascii")
        lengths = _LENGTHS.pack(len(head), sum(len(piece) for piece in content))
        for piece in (lengths + head, *content):
            self._write(piece)

    def receive(self) -> Frame:
        """The next answer. Raises as `send`, and what the answer tells of.

        That is Refused for a full disk, Lost for a file that is not there, FarError for the rest.
        """
        for_header, for_content = _LENGTHS.unpack(self._read(_LENGTHS.size))
        if max(for_header, for_content) > _LARGEST:
            raise FarError(f"the machine sends a frame of {for_header} + {for_content} bytes")
        try:
            header = json.loads(self._read(for_header))
        except ValueError as error:
            raise unreadable() from error
        if not isinstance(header, dict):
            raise unreadable()
        content = self._room(for_content)
        self._read_into(content)
        if "error" in header:
            raise _failure(str(header["error"]), str(header.get("errno", "")))
        return Frame(header, content)

    def hears(self, within_s: float) -> bool:
        """Whether something can be received, perhaps the end."""
        if not self._greeted:
            self._greet()
        with selectors.DefaultSelector() as waiting:
            waiting.register(self._out, selectors.EVENT_READ)
            return bool(waiting.select(within_s))

    def kill(self) -> None:
        """Wake whoever waits for this channel: it fails. From any thread."""
        self._process.kill()

    def close(self) -> None:
        """End it; the process at the far end notices."""
        with contextlib.suppress(OSError):
            self._in.close()
        self._out.close()
        self._process.kill()
        self._process.wait()
        self._said.close()

    def _write(self, content: Buffer) -> None:
        view = memoryview(content)
        try:
            while view:
                view = view[os.write(self._in.fileno(), view) :]
        except BrokenPipeError:
            raise self._failure() from None

    def _read(self, count: int) -> bytearray:
        if not self._greeted:
            self._greet()
        found = bytearray(count)
        self._read_into(memoryview(found))
        return found

    def _read_into(self, view: memoryview) -> None:
        have = 0
        while have < len(view):
            got = os.readv(self._out.fileno(), [view[have:]])
            if not got:
                raise self._failure()
            have += got

    def _room(self, count: int) -> memoryview:
        """The same memory every time: fresh pages cost more than what is read into them."""
        if len(self._content) < count:
            self._content = bytearray(count)
        return memoryview(self._content)[:count]

    def _greet(self) -> None:
        if read_past(self._out, self._marker, within_s=CONNECT_S) is None:
            self._process.kill()
            raise self._failure()
        self._greeted = True
        self.opened_s = time.monotonic() - self._began_s

    def _failure(self) -> FtlaunchError:
        """Why the channel has ended: ssh says 255 for itself, and the far end goes with 0 or 1."""
        try:
            code = self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self._said.seek(0)
        said = self._said.read()
        if not self._greeted:
            return self._host.failure(said)
        if code > 0 and code != 255:
            words = said.decode("utf-8", "replace").strip().rpartition("\n")[2]
            return FarError(f"the far end of the transfer has ended: {words or f'code {code}'}")
        return Broken(f"the connection to {self._host.target} was lost")


def unreadable() -> FarError:
    """The far end is not what it should be, or not honest."""
    return FarError("the machine answers what cannot be read")


def text(name: bytes) -> str:
    """A name as it travels: odd bytes are lone surrogates, whatever this machine's encoding."""
    return name.decode("utf-8", "surrogateescape")


def path_text(path: PurePosixPath) -> str:
    """The same for a path."""
    return text(os.fsencode(path))


def _failure(words: str, name: str) -> FtlaunchError:
    code = getattr(errno, name, None) if name.startswith("E") else None
    if code in _FULL:
        return Refused("the machine's disk is full", hint="what has arrived there stays")
    if code in _GONE:
        return Lost(f"there is no such file there: {words}")
    return FarError(f"the machine cannot do that: {words}", code=code)


def _widen(pipe: int) -> None:
    """A wider pipe is emptied in fewer, longer turns."""
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with contextlib.suppress(OSError):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
