"""Files to and from a machine that is reached by ssh. All paths are relative to a root there.

What arrives is checked by sha256 from end to end, appears under its name only when it is whole,
and is not sent again: after a break at any byte the transfer goes on at the part. A break is mended
here as long as there is some progress; what cannot be mended is raised.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path, PurePosixPath
from typing import TypeVar

from backends.job import LocalFile
from backends.protocol import Progress, silent
from backends.ssh import fetching, reading, sending
from backends.ssh.crew import Meter, Moved
from backends.ssh.errors import SshError
from backends.ssh.frames import state_folder
from backends.ssh.host import Host

__all__ = ["Moved", "download", "listing", "read", "state_folder", "upload"]

CHANNELS = 6
"""An sshd allows ten on a connection (MaxSessions): some are left for whoever follows a log."""
_TRIES = 3
_PATIENCE = timedelta(seconds=30)

_T = TypeVar("_T")


def upload(
    host: Host,
    root: PurePosixPath,
    files: Sequence[LocalFile],
    *,
    told: Progress,
    channels: int = CHANNELS,
) -> Moved:
    """Bring files of this machine to their places below `root`, private to their owner.

    Returns when each is there with the content that was planned. One that is there already is not
    sent; one that has begun is continued. Of two who do the same at once neither spoils the other.
    Raises Refused, naming the file, when it is gone or has changed since it was planned, when its
    place is none, or when the machine's disk is full; SshError when the connection was lost again
    and again; FarError for what the machine will not do.
    """
    meter = Meter("sending files", told)
    if files:
        _mended(
            host, meter, lambda: sending.send(host, root, files, meter=meter, channels=channels)
        )
    return meter.result


def download(
    host: Host,
    root: PurePosixPath,
    paths: Sequence[PurePosixPath],
    into: Path,
    *,
    sha256: Mapping[PurePosixPath, str],
    told: Progress,
    channels: int = CHANNELS,
) -> Moved:
    """Bring files to `into`, keeping their relative paths; links there are followed.

    sha256  what some of the files must be

    A file that is here with the same content is not sent; one that has begun is continued. Raises
    Lost when a file is not there, or is no longer what it must be; Refused when it cannot be
    written here; SshError, FarError as `upload`.
    """
    meter = Meter("fetching files", told)

    def fetch() -> None:
        fetching.fetch(host, root, paths, into, sha256=sha256, meter=meter, channels=channels)

    if paths:
        _mended(host, meter, fetch)
    return meter.result


def listing(host: Host, root: PurePosixPath) -> dict[PurePosixPath, int]:
    """Every regular file below `root` with its size in bytes; links are passed over.

    Raises Lost when there is no such folder; SshError, FarError.
    """
    return _mended(host, None, lambda: reading.listing(host, root))


def read(
    host: Host, root: PurePosixPath, path: PurePosixPath, *, offset: int, follow: bool
) -> Iterator[bytes]:
    """The bytes of one file from `offset` on. See `Backend.read`.

    Goes on where it was when the connection is lost and can be made again. Raises Lost when there
    is no such file, SshError when the connection cannot be made again, FarError.
    """
    return reading.read(host, root, path, offset=offset, follow=follow)


def _mended(host: Host, meter: Meter | None, once: Callable[[], _T]) -> _T:
    """Do it, and do it again when the connection was lost; some progress renews the patience."""
    failures = 0
    while True:
        before = meter.result if meter else None
        try:
            return once()
        except SshError as error:
            moved = meter is not None and meter.result != before
            failures = 1 if moved else failures + 1
            if not error.transient or failures >= _TRIES:
                raise
        host.wait(_PATIENCE, told=silent)
