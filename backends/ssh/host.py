"""A machine that is reached by ssh: one connection of the system's `ssh`, shared by all callers.

The connection is a process of ours (the "master"), whose own session holds a `cat` at the far end:
when this process dies, however it dies, its end of the pipe closes, `cat` ends, and the connection
with it. Everything else is a channel of that connection, so that only the first call pays for the
key exchange. It is found anew when it was lost, at the next call. Several processes may use one
machine at once: each has its own.

What a login shell prints by itself (`.bashrc`, a banner) comes before a marker that nobody can
guess, and is thrown away. The marker stands in the command in two halves, so that a shell that
echoes its commands does not print it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import selectors
import shlex
import shutil
import subprocess
import tempfile
import threading
import time
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from backends.protocol import Progress
from backends.ssh import lingering
from backends.ssh.errors import Broken, Denied, NoAnswer, SshError, from_connecting
from backends.ssh.lingering import Shared
from backends.ssh.shell import CONNECT_S, Marker, login, looking, surroundings
from backends.ssh.tunnel import Tunnel

DENIED_PATIENCE = timedelta(seconds=60)
"""Keys land a while after the machine answers."""
_MASTER_GONE = ("mux_client", "Control master terminated")
"""What a channel's ssh says when its connection is gone, before or after it had opened."""
_LONGEST_SOCKET = 104 - 1 - 17
"""macOS: 104 bytes with the closing zero; ssh binds a name that is 17 longer, then renames."""


@dataclass(frozen=True)
class Target:
    """Where a machine is reached.

    config  an ssh configuration file that knows `host` by an alias; it says user, port and way
    """

    user: str
    host: str
    port: int = 22
    config: Path | None = None

    def __str__(self) -> str:
        if self.config is not None:
            return self.host
        return f"{self.user}@{self.host} (port {self.port})"


@dataclass(frozen=True)
class Done:
    """How a command ended; `code` is 128 + n for signal n."""

    code: int
    out: bytes
    err: bytes


@dataclass
class _Master:
    """A living connection, and what was learnt while it was made."""

    process: subprocess.Popen[bytes]
    socket: Path
    python: str | None
    ending: weakref.finalize[..., Host] | None = None

    @property
    def alive(self) -> bool:
        return self.process.poll() is None and self.socket.exists()

    def end(self) -> None:
        if self.ending is not None:
            self.ending.detach()
        self.process.terminate()
        with contextlib.suppress(BrokenPipeError):
            self.process.communicate()
        self.socket.unlink(missing_ok=True)

    def end_with(self, owner: Host) -> None:
        """End when nobody holds its owner any more: not every caller knows when it is done."""
        self.ending = weakref.finalize(owner, self.end)


class Host:
    """A machine reached by ssh. Cheap to make; connects when first used. Any thread may use it.

    key          the private key; no other, no agent and no other configuration is consulted
    known_hosts  the file of this one machine's host key: accepted when first seen, then held to
    folder       a private folder with a short name, for the connection's socket
    lingers      where to connect is dear: the connection is one for all processes that name this
                 folder, and ends by itself when nobody has used it for LINGER
    """

    def __init__(
        self,
        target: Target,
        *,
        key: Path,
        known_hosts: Path,
        folder: Path,
        lingers: bool = False,
    ) -> None:
        self.target = target
        self.key = key
        self.known_hosts = known_hosts
        self._lingers = lingers
        self._folder = folder
        self._own_folder: Path | None = None
        self._connecting = threading.Lock()
        self._master: _Master | None = None
        self._shared: Shared | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    # ── the verbs ─────────────────────────────────────────────────────────────────────────────

    def wait(self, patience: timedelta, *, told: Progress) -> None:
        """Return when a command runs there.

        A machine that is just starting refuses, resets or does not let the key in, so those are
        tried again: the first two for `patience`, the third for at most a minute of it.
        Raises the last NoAnswer, Broken or Denied; Imposter at once.
        """
        began = time.monotonic()
        denied_since: float | None = None
        while True:
            try:
                self.run(["true"], timeout=timedelta(seconds=CONNECT_S))
            except Denied as error:
                now = time.monotonic()
                denied_since = now if denied_since is None else denied_since
                late = now - denied_since >= min(DENIED_PATIENCE, patience).total_seconds()
                failure: SshError = error
            except (NoAnswer, Broken) as error:
                denied_since = None
                late = time.monotonic() - began >= patience.total_seconds()
                failure = error
            else:
                return
            if late:
                raise failure
            told(f"waiting for the machine: {failure.message}")
            time.sleep(min(2.0, 0.2 + (time.monotonic() - began) / 5))

    def run(self, command: Sequence[str], *, stdin: bytes = b"", timeout: timedelta) -> Done:
        """Run a command there, in a login shell's environment, and wait for its end.

        Its arguments arrive as they are: no shell reads them. Any exit code is an answer.
        Raises NoAnswer or Denied or Imposter when it did not start, NoAnswer too when `timeout`
        passed (it may still run there), Broken when the connection was lost meanwhile.
        """
        marker = Marker.new()
        begin, end = marker.printing, Marker.new()
        script = f"{begin}; {begin} >&2; {shlex.join(command)}; {end.printing}$? >&2"
        process = self.spawn(script, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            out, err = process.communicate(stdin, timeout=timeout.total_seconds())
        except subprocess.TimeoutExpired:
            raise NoAnswer(
                f"{self.target} did not finish {command[0]!r} within {timeout.total_seconds():g} s"
            ) from None
        finally:
            _put_away(process)
        said, greeted, err = err.partition(marker.seen)
        if not greeted:
            raise self.failure(said)
        err, ended, code = err.rpartition(end.seen)
        digits = code[:3].split(b"\n")[0]
        if not ended or not digits.isdigit():
            raise Broken(f"the connection to {self.target} was lost while {command[0]!r} ran")
        return Done(int(digits), out.partition(marker.seen)[2], err + code[len(digits) :])

    def popen(
        self, command: Sequence[str], *, stderr: int | IO[bytes] = subprocess.DEVNULL
    ) -> subprocess.Popen[bytes]:
        """Start a command there and talk with it: its stdin and stdout are pipes of the result.

        Returns when it is about to start. It ends when its stdin is closed, if it heeds that:
        killing the process here does not kill the command there. Raises as `run` does.
        """
        marker = Marker.new()
        hidden = isinstance(stderr, int) and stderr == subprocess.DEVNULL
        script = f"{marker.printing}; exec {shlex.join(command)}{' 2>/dev/null' * hidden}"
        with tempfile.TemporaryFile() as said:
            process = self.spawn(script, stdin=subprocess.PIPE, stderr=said if hidden else stderr)
            try:
                self._greeting(process, marker, process.stderr or said)
            except BaseException:
                _put_away(process)
                raise
        return process

    def forward(self, port: int) -> Tunnel:
        """A tunnel to a port of the far end's own loopback; entered, it gives its Address.

        The near end listens on 127.0.0.1, on a free port. It survives a lost connection: who
        connects next is put through on a new one.
        """
        return Tunnel(lambda: self._channel(["-W", f"127.0.0.1:{port}"]))

    def python(self) -> str | None:
        """The far end's Python, 3.9 or newer, as an absolute path; None when there is none."""
        return self._connection().python

    def close(self) -> None:
        """Let go of the connection. The next call would make another."""
        with self._connecting:
            if self._master is not None:
                self._master.end()
                self._master = None
            if self._own_folder is not None:
                shutil.rmtree(self._own_folder, ignore_errors=True)
                self._own_folder = None

    # ── what the rest of this package builds on ───────────────────────────────────────────────

    def spawn(self, script: str, *, stdin: int, stderr: int | IO[bytes]) -> subprocess.Popen[bytes]:
        """A channel on which a login shell runs `script`; its stdout is a pipe."""
        self._connection()
        return self._channel([], login(script), stdin=stdin, stderr=stderr)

    def failure(self, said: bytes) -> SshError:
        """What it means that a command did not start, given what ssh wrote."""
        text = said.decode("utf-8", "replace")
        # A channel that says nothing was cut off: its words, and the command's, were on the way.
        if not text.strip() or any(sign in text for sign in _MASTER_GONE):
            return Broken(f"the connection to {self.target} was lost")
        return from_connecting(text, str(self.target), key=self.key, known_hosts=self.known_hosts)

    def _connection(self) -> _Master | Shared:
        if not self._lingers:
            return self.connected()
        with self._connecting:
            self._shared = lingering.joined(self, self._folder, self._shared)
            return self._shared

    def connected(self) -> _Master:
        """The connection of this process, made now if there is none."""
        with self._connecting:
            if self._master is not None and not self._master.alive:
                self._master.end()
                self._master = None
            if self._master is None:
                self._master = self._connect()
                self._master.end_with(self)
            return self._master

    def probed(self, socket: Path) -> str | None:
        """Where the far end's Python is, asked over a connection that is there."""
        marker = Marker.new()
        process = subprocess.Popen(
            [
                *self.ssh(socket, "no"),
                "--",
                self.target.host,
                login(f"{marker.printing}; {looking(marker)}"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=surroundings(),
            start_new_session=True,
        )
        try:
            assert process.stderr is not None
            self._greeting(process, marker, process.stderr)
            found = self._greeting(process, marker, process.stderr)
        finally:
            _put_away(process)
        return found.decode("utf-8", "surrogateescape") or None

    def _connect(self) -> _Master:
        socket = self._socket()
        marker = Marker.new()
        script = f"{marker.printing}; {looking(marker)}; exec cat >/dev/null"
        with tempfile.TemporaryFile() as said:
            process = subprocess.Popen(
                [
                    *self.ssh(socket, "yes"),
                    "--",
                    self.target.host,
                    login(script),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                env=surroundings(),
                start_new_session=True,
            )
            master = _Master(process, socket, None)
            try:
                self._greeting(process, marker, said)
                found = self._greeting(process, marker, said)
            except BaseException:
                master.end()
                raise
        master.python = found.decode("utf-8", "surrogateescape") or None
        return master

    def _greeting(self, process: subprocess.Popen[bytes], marker: Marker, said: IO[bytes]) -> bytes:
        """Read past the marker; what came before it. Raises what ssh says when it never comes."""
        assert process.stdout is not None
        found = read_past(process.stdout, marker, within_s=CONNECT_S)
        if found is None:
            # What ssh has to say comes after the end of its output.
            _end(process, patience_s=2.0)
            raise self.failure(_content(said))
        return found

    def _channel(
        self,
        more: Sequence[str],
        command: str | None = None,
        *,
        stdin: int = subprocess.PIPE,
        stderr: int | IO[bytes] = subprocess.DEVNULL,
    ) -> subprocess.Popen[bytes]:
        argv = [*self.ssh(self._connection().socket, "no"), *more, "--", self.target.host]
        return subprocess.Popen(
            argv if command is None else [*argv, command],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=surroundings(),
            start_new_session=True,
        )

    def ssh(self, socket: Path, master: str) -> list[str]:
        """For `lingering`: the start of a command line; the host comes next."""
        # The way that a configuration names may be a program that itself takes its time: SkyPilot's
        # imports all of its client, some 5 s on an idle machine and 20 s on a busy one.
        options = {
            "IdentitiesOnly": "yes",
            "IdentityAgent": "none",
            "PreferredAuthentications": "publickey",
            "BatchMode": "yes",
            "UserKnownHostsFile": _quoted(self.known_hosts),
            "GlobalKnownHostsFile": "/dev/null",
            "StrictHostKeyChecking": "accept-new",
            "UpdateHostKeys": "no",
            "ConnectTimeout": "10" if self.target.config is None else "45",
            "ServerAliveInterval": "15",
            "ServerAliveCountMax": "3",
            "Ciphers": "^aes128-gcm@openssh.com",
            "ControlMaster": master,
            "ControlPath": _quoted(socket),
        }
        set_options = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
        where = ["-F", "none", "-l", self.target.user, "-p", str(self.target.port)]
        if self.target.config is not None:
            where = ["-F", str(self.target.config)]
        return ["ssh", "-T", "-i", str(self.key), *set_options, *where]

    def _socket(self) -> Path:
        folder = self._folder
        if len(os.fsencode(folder)) + 9 > _LONGEST_SOCKET:
            if self._own_folder is None:
                self._own_folder = Path(tempfile.mkdtemp(prefix="ftl", dir="/tmp"))
            folder = self._own_folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder / secrets.token_hex(4)


def read_past(stream: IO[bytes], marker: Marker, *, within_s: float) -> bytes | None:
    """Read up to and including the marker; what came before it. None: the end, or too late.

    Takes single bytes where it must, so that nothing after the marker is taken from the stream.
    """
    end = time.monotonic() + within_s
    seen, sign = bytearray(), marker.seen
    with selectors.DefaultSelector() as waiting:
        waiting.register(stream, selectors.EVENT_READ)
        while not seen.endswith(sign):
            if not waiting.select(max(0.0, end - time.monotonic())):
                return None
            chunk = os.read(stream.fileno(), _missing(seen, sign))
            if not chunk:
                return None
            seen += chunk
            del seen[: -(1 << 16)]
    return bytes(seen[: -len(sign)])


def _missing(seen: bytearray, sign: bytes) -> int:
    """How many bytes may be read without going past the sign: what it still lacks, at the least."""
    for length in range(min(len(seen), len(sign)), 0, -1):
        if seen.endswith(sign[:length]):
            return len(sign) - length
    return len(sign)


def _end(process: subprocess.Popen[bytes], *, patience_s: float = 0.0) -> None:
    """End the process, unless it does so by itself in time."""
    try:
        process.wait(patience_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _put_away(process: subprocess.Popen[bytes]) -> None:
    """End the process, if it has not, and close its pipes."""
    _end(process)
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()


def _content(file: IO[bytes]) -> bytes:
    if file.seekable():
        file.seek(0)
    return file.read()


def _quoted(path: Path) -> str:
    """As the value of an option: ssh splits it at spaces and expands `%`."""
    return '"' + str(path).replace("%", "%%") + '"'
