"""The ways to bring a folder to a machine and back: ours, and what people type instead.

Each way makes its own connection and ends it, as a command does. The peers have ssh's defaults.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from backends.protocol import silent
from backends.ssh import sync
from benchmarks.loads import Load
from benchmarks.support import Sshd, missing_parts


@dataclass(frozen=True)
class Link:
    """A machine, and the port where it is reached: its own, or that of a proxy."""

    machine: Sshd
    port: int

    @property
    def address(self) -> str:
        """As rsync and scp want it."""
        return f"{self.machine.target.user}@{self.machine.target.host}"

    def options(self, port: str, *more: str) -> list[str]:
        """What ssh must be told to get in; `port` is how the program spells that option."""
        words = ["-F", "none", "-i", str(self.machine.key), port, str(self.port)]
        settings = (
            "IdentitiesOnly=yes",
            "IdentityAgent=none",
            "BatchMode=yes",
            "StrictHostKeyChecking=accept-new",
            f'UserKnownHostsFile="{self.machine.known_hosts}"',
        )
        return [*words, *(word for setting in settings for word in ("-o", setting)), *more]


class Mover(Protocol):
    """Copies a folder, to the machine and from it. The target is not there yet."""

    @property
    def name(self) -> str:
        """How it is called in the results."""

    def up(self, link: Link, load: Load, target: Path) -> None:
        """From here to there."""

    def down(self, link: Link, load: Load, target: Path) -> None:
        """From there to here."""


@dataclass(frozen=True)
class Ours:
    """The file sync of this project. It checks every digest, which no peer does."""

    name: str = "ours"

    def up(self, link: Link, load: Load, target: Path) -> None:
        """See Mover."""
        with link.machine.host(port=link.port) as host:
            sync.upload(host, PurePosixPath(target), load.files, told=silent)

    def down(self, link: Link, load: Load, target: Path) -> None:
        """See Mover."""
        digests = {file.at: file.sha256 for file in load.files}
        with link.machine.host(port=link.port) as host:
            sync.download(
                host, PurePosixPath(load.folder), [*digests], target, sha256=digests, told=silent
            )


@dataclass(frozen=True)
class Rsync:
    """`rsync -a` over ssh. `more` is for ssh."""

    name: str = "rsync"
    more: tuple[str, ...] = ()

    def up(self, link: Link, load: Load, target: Path) -> None:
        """See Mover."""
        self._run(link, f"{load.folder}/", f"{link.address}:{target}/")

    def down(self, link: Link, load: Load, target: Path) -> None:
        """See Mover."""
        self._run(link, f"{link.address}:{load.folder}/", f"{target}/")

    def _run(self, link: Link, source: str, target: str) -> None:
        shell = shlex.join(["ssh", *link.options("-p", *self.more)])
        _run(["rsync", "-a", "-e", shell, source, target])


@dataclass(frozen=True)
class Scp:
    """`scp -r`."""

    name: str = "scp"

    def up(self, link: Link, load: Load, target: Path) -> None:
        """See Mover."""
        _run(["scp", "-q", "-r", *link.options("-P"), str(load.folder), f"{link.address}:{target}"])

    def down(self, link: Link, load: Load, target: Path) -> None:
        """See Mover."""
        _run(["scp", "-q", "-r", *link.options("-P"), f"{link.address}:{load.folder}", str(target)])


@dataclass(frozen=True)
class Tar:
    """`tar` here, `tar` there, and ssh between them. `more` is for ssh."""

    name: str = "tar"
    more: tuple[str, ...] = ()

    def up(self, link: Link, load: Load, target: Path) -> None:
        """See Mover."""
        there = f"mkdir {shlex.quote(str(target))} && {shlex.join(_unpack(target))}"
        _pipe(_pack(load.folder), self._ssh(link, there))

    def down(self, link: Link, load: Load, target: Path) -> None:
        """See Mover."""
        target.mkdir()
        _pipe(self._ssh(link, shlex.join(_pack(load.folder))), _unpack(target))

    def _ssh(self, link: Link, command: str) -> list[str]:
        return ["ssh", *link.options("-p", *self.more), "--", link.address, command]


def missing() -> str:
    """The programs that are not here, with the way to get them; empty when all are."""
    parts = [missing_parts()] if missing_parts() else []
    parts += [name for name in ("rsync", "scp", "tar") if shutil.which(name) is None]
    if not parts:
        return ""
    return (
        f"cannot compare: {', '.join(parts)} missing here (on Debian: "
        "apt-get install rsync openssh-client openssh-server tar)"
    )


def _pack(folder: Path) -> list[str]:
    return ["tar", "-C", str(folder), "-cf", "-", "."]


def _unpack(folder: Path) -> list[str]:
    return ["tar", "-C", str(folder), "-xf", "-"]


def _run(argv: Sequence[str]) -> None:
    subprocess.run(list(argv), check=True, stdin=subprocess.DEVNULL)


def _pipe(first: Sequence[str], second: Sequence[str]) -> None:
    with subprocess.Popen(list(first), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as source:
        subprocess.run(list(second), check=True, stdin=source.stdout)
    if source.returncode:
        raise subprocess.CalledProcessError(source.returncode, source.args)
