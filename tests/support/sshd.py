"""A real sshd of a test's own, on 127.0.0.1, that ends when the test process does.

    with Sshd(tmp_path) as machine:
        with machine.host() as host: ...

It has a port, a host key, an authorized key and (if wanted) a home of its own, and runs as whoever
runs the tests. `missing_parts` says what a machine lacks for it.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from backends.ssh.host import Host, Target

_KEEPER = (sys.executable, "-S", "-E", str(Path(__file__).with_name("keeper.py")))
_LONGEST_S = 30.0


def program() -> str | None:
    """The sshd of this machine, as an absolute path: it refuses any other."""
    return shutil.which("sshd", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"]))


def missing_parts() -> str:
    """What is needed and not here; empty when all is."""
    parts = {
        "sshd": program(),
        "ssh": shutil.which("ssh"),
        "ssh-keygen": shutil.which("ssh-keygen"),
    }
    return ", ".join(name for name, found in parts.items() if not found)


def new_key(path: Path) -> Path:
    """A fresh private key (its public half beside it, `.pub`)."""
    for old in (path, path.with_name(path.name + ".pub")):
        old.unlink(missing_ok=True)
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return path


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on just now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Sshd:
    """A machine that can be reached by ssh: this one, by another door.

    home   the HOME that commands see; this user's own if not given
    extra  more lines of sshd_config
    """

    def __init__(self, folder: Path, *, home: Path | None = None, extra: str = "") -> None:
        self.folder = folder / "sshd"
        self.folder.mkdir(parents=True)
        self.home = home
        self.port = free_port()
        self.key = new_key(self.folder / "key")
        self.known_hosts = self.folder / "known_hosts"
        self.authorized = self.folder / "authorized"
        self.authorize(self.key)
        self.log = self.folder / "log"
        self._host_key = new_key(self.folder / "host_key")
        self._extra = extra
        self._keeper: subprocess.Popen[str] | None = None
        self._sockets = Path(tempfile.mkdtemp(prefix="ftl"))
        self.sessions: list[Host] = []

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        for host in self.sessions:
            host.close()
        self.stop()
        shutil.rmtree(self._sockets)

    @property
    def target(self) -> Target:
        """Where it is reached."""
        return Target(user=getpass.getuser(), host="127.0.0.1", port=self.port)

    def host(self, *, port: int | None = None, key: Path | None = None) -> Host:
        """A new connection to it; `port` may be that of a proxy. Closed with the machine."""
        there = Target(self.target.user, self.target.host, port or self.port)
        found = Host(there, key=key or self.key, known_hosts=self.known_hosts, folder=self._sockets)
        self.sessions.append(found)
        return found

    def start(self) -> None:
        """Listen; returns when it answers. Starting anew keeps port and keys."""
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        config = self.folder / "config"
        config.write_text(self._config())
        log = self.log.open("a")
        with log:
            self._keeper = subprocess.Popen(
                [*_KEEPER, str(program()), "-D", "-e", "-f", str(config)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self._wait_for_banner()

    def stop(self) -> None:
        """End it and everything that was started through it, daemons too. Connects are refused."""
        if self._keeper is not None:
            self._keeper.communicate()
            self._keeper = None

    def cut(self) -> None:
        """Kill every connection and all that was started through them; go on listening."""
        assert self._keeper is not None
        assert self._keeper.stdin is not None
        assert self._keeper.stdout is not None
        self._keeper.stdin.write("cut\n")
        self._keeper.stdin.flush()
        assert self._keeper.stdout.readline() == "done\n"

    def change_host_key(self) -> None:
        """Be another machine on the same address, from the next connect on."""
        self.stop()
        self._host_key = new_key(self.folder / "host_key")
        self.start()

    def authorize(self, *keys: Path) -> None:
        """Let in who holds one of these private keys, and nobody else."""
        public = [key.with_name(key.name + ".pub").read_text() for key in keys]
        self.authorized.write_text("".join(public))

    def _config(self) -> str:
        home = f'SetEnv HOME="{self.home}"\n' if self.home else ""
        return f"""Port {self.port}
ListenAddress 127.0.0.1
HostKey "{self._host_key}"
PidFile none
AuthorizedKeysFile "{self.authorized}"
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
PermitRootLogin prohibit-password
PermitUserRC no
StrictModes no
UseDNS no
PrintMotd no
PrintLastLog no
MaxStartups 100:30:200
{home}{self._extra}
"""

    def _wait_for_banner(self) -> None:
        where = ("127.0.0.1", self.port)
        end = time.monotonic() + _LONGEST_S
        while True:
            with contextlib.suppress(OSError), socket.create_connection(where, timeout=5) as found:
                if found.recv(4) == b"SSH-":
                    return
            assert time.monotonic() < end, self.log.read_text()
            time.sleep(0.02)
