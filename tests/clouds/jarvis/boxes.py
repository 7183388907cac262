"""One machine that really runs: an sshd on the loopback interface, and the walls around it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from clouds.jarvis import image
from clouds.jarvis.disks import Disk
from clouds.jarvis.image import Isolation, Template, quoted

SSHD = "/usr/sbin/sshd"
INIT = Path(__file__).with_name("init.py")
_OWN_ETC = ("passwd", "profile", "shadow")


def lacking() -> str | None:
    """What this machine has not that a cloud needs, with the way to get it; None: nothing."""
    if sys.platform != "linux":
        return "Linux"
    if not Path(SSHD).exists():
        return "sshd (Debian: apt-get install openssh-server)"
    if shutil.which("ssh-keygen") is None:
        return "ssh-keygen (Debian: apt-get install openssh-client)"
    return None


def best_isolation() -> Isolation:
    """The thickest walls this machine and user allow."""
    tools = shutil.which("unshare")
    if os.geteuid() == 0:
        test = ["unshare", "--mount", "--pid", "--uts", "--fork", "true"]
        kind: Isolation = "namespace"
    else:
        test = ["unshare", "--user", "--map-root-user", "--mount", "--pid", "--uts", "--fork"]
        test.append("true")
        kind = "user"
    if tools and subprocess.run(test, capture_output=True, check=False).returncode == 0:
        return kind
    return "plain"


@dataclass(frozen=True)
class Setup:
    """What a box is made of, this time."""

    disk: Disk
    number: int
    port: int
    vm: bool
    template: Template
    keys: Sequence[str]
    visible: Sequence[Path]
    shared: Path | None
    """The folder of an attached filesystem."""


class Box:
    """A machine that is switched on."""

    def __init__(self, setup: Setup, isolation: Isolation) -> None:
        self._setup = setup
        self._isolation = isolation
        self.user = image.login(isolation, vm=setup.vm)
        etc = setup.disk.etc
        self._write_files(etc)
        (etc / "init.json").write_text(json.dumps(self._spec()))
        with (etc / "init.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._walls(), sys.executable, "-I", "-S", str(INIT), str(etc / "init.json")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={"PATH": image.PATH},
                cwd="/",
                start_new_session=True,
            )
        self._heard("up")

    def _walls(self) -> list[str]:
        if self._isolation == "plain":
            return []
        own = ["--user", "--map-root-user"] if self._isolation == "user" else []
        return ["unshare", *own, "--mount", "--pid", "--uts", "--fork", "--kill-child=KILL"]

    def _write_files(self, etc: Path) -> None:
        setup = self._setup
        self.admit(setup.keys)
        key = etc / "host_key"
        if not key.exists():
            making = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)]
            subprocess.run(making, check=True, stdin=subprocess.DEVNULL, capture_output=True)
        # With no file system of its own, a machine's login shells still look into its HOME.
        own = setup.disk.place / self._home().lstrip("/")
        own.mkdir(parents=True, exist_ok=True)
        profile = own / ".profile" if self._isolation == "plain" else etc / "profile"
        profile.write_text(setup.template.profile())
        (etc / "boot_id").write_text(f"{uuid.uuid4()}\n")
        (etc / "passwd").write_text(image.passwd(self.user, self._home(), self._isolation))
        # sshd lets nobody in whose account is locked, as root's is on some machines.
        (etc / "shadow").write_text(f"{self.user}:*:19000:0:99999:7:::\n")
        if setup.template.says:
            (own / ".bashrc").write_text(f"echo {quoted(setup.template.says)}\n")
        place = str(etc) if self._isolation == "plain" else "/run/box"
        home = str(own) if self._isolation == "plain" else None
        (etc / "sshd_config").write_text(image.sshd_config(setup.port, place, home))

    def _home(self) -> str:
        return "/home/ubuntu" if self._setup.vm else "/root"

    def _spec(self) -> dict[str, object]:
        setup, etc = self._setup, str(self._setup.disk.etc)
        binds: list[tuple[str, str, bool]] = [
            (str(setup.disk.place / name), f"/{name}", True) for name in setup.disk.tops()
        ]
        if setup.shared is not None:
            binds.append((str(setup.shared), "/home/jl_fs", True))
        binds.append((etc, "/run/box", True))
        binds += [
            (f"{etc}/{name}", f"/etc/{name}", False)
            for name in _OWN_ETC
            if Path("/etc", name).exists()
        ]
        if setup.vm:
            # A VM has a kernel of its own, and boots it.
            binds.append((f"{etc}/boot_id", "/proc/sys/kernel/random/boot_id", False))
        resolver = Path("/etc/resolv.conf").resolve()
        if resolver.is_relative_to("/run") and resolver.exists():
            binds.append((str(resolver), str(resolver), False))
        if setup.template.python:
            binds += [(str(path), str(path), False) for path in setup.visible]
        place = etc if self._isolation == "plain" else "/run/box"
        return {
            "mode": self._isolation,
            "hostname": f"jl-{setup.number}",
            "root": str(setup.disk.place / "ns"),
            "nothing": f"{etc}/nothing",
            "binds": binds,
            "masked": [] if setup.template.python else image.pythons(),
            "ids": [os.geteuid(), os.getegid()] if self._isolation == "user" else None,
            "port": setup.port,
            "startup": ["/bin/sh", "-lc", f". {place}/startup"],
            "sshd": [SSHD, "-D", "-f", f"{place}/sshd_config", "-E", f"{place}/sshd.log"],
        }

    def run(self, script: str, arguments: Sequence[str]) -> None:
        """Start a startup script; nobody waits for it, and its output is nowhere."""
        etc = self._setup.disk.etc
        (etc / "script.sh").write_text(script)
        place = str(etc) if self._isolation == "plain" else "/run/box"
        words = " ".join(map(quoted, [f"{place}/script.sh", *arguments]))
        home = self._setup.disk.place if self._isolation == "plain" else ""
        (etc / "startup").write_text(f"HOME={home}/root; export HOME; cd; exec sh {words}\n")
        self.order("script")

    def order(self, word: Literal["open", "close", "hang", "thaw", "script"]) -> None:
        """Tell the machine's init; returns when it has done it."""
        stdin = self._process.stdin
        assert stdin is not None
        stdin.write(f"{word}\n".encode())
        stdin.flush()
        self._heard(f"done {word}")

    def _heard(self, expected: str) -> None:
        stdout = self._process.stdout
        assert stdout is not None
        line = stdout.readline().decode().strip()
        if line != expected:
            log = (self._setup.disk.etc / "init.log").read_text()
            raise RuntimeError(f"the machine's init said {line!r}, not {expected!r}: {log}")

    def admit(self, keys: Sequence[str]) -> None:
        """Let in who holds one of these keys, from the next connection on."""
        path = self._setup.disk.etc / "authorized_keys"
        path.write_text("".join(f"{key.strip()}\n" for key in keys))
        path.chmod(0o644)

    def kill(self) -> None:
        """Every process of it, at once; returns when they are gone."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        first = self._first()
        if first is None:
            with contextlib.suppress(OSError):
                stdin.close()  # its init kills what descends from it, then ends
        else:
            # Not unshare itself: it ends when the namespace is empty, and that is what we wait for.
            with contextlib.suppress(ProcessLookupError):
                os.kill(first, signal.SIGKILL)
        self._process.wait()
        stdout.close()
        with contextlib.suppress(OSError):
            stdin.close()

    def _first(self) -> int | None:
        """The init of its namespace, as we see it."""
        pid = self._process.pid
        if self._isolation == "plain":
            return None
        with contextlib.suppress(OSError, ValueError):
            return int(Path(f"/proc/{pid}/task/{pid}/children").read_text())
        return None
