"""The first process of a machine: lays out its file system, runs its sshd, reaps, obeys.

It is started anew for each boot, in namespaces of its own where that is allowed, and reads orders
from its standard input, one word a line: `open`, `close`, `hang`, `thaw`, `script`. When its input
ends, the machine ends: so no machine outlives its provider, however that dies.

Standard library, one file, and everything imported at the start: later the file system is another.
"""

from __future__ import annotations

import contextlib
import ctypes
import encodings.idna  # noqa: F401 - what a codec may ask for later is not there any more
import json
import os
import select
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

RDONLY, REMOUNT, BIND, REC, PRIVATE = 1, 32, 4096, 16384, 1 << 18
KEPT_FLAGS = {1: 1, 2: 2, 4: 4, 8: 8, 1024: 1024, 2048: 2048, 4096: 1 << 21}
"""What statvfs says of a mount, as mount wants it: a user namespace may not take these away."""
PIVOT_ROOT = {"x86_64": 155, "aarch64": 41, "riscv64": 41}
DETACH = 2
NEW_USER = 0x10000000
SUBREAPER = 36
SYSTEM = ("bin", "etc", "lib", "lib32", "lib64", "libx32", "sbin", "usr")
LIBC = ctypes.CDLL(None, use_errno=True)


def checked(code: int, what: str) -> None:
    if code != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    text = [part.encode() if part else None for part in (source, target, kind)]
    checked(LIBC.mount(*text, ctypes.c_ulong(flags), data.encode() or None), f"mount {target}")


def bind(source: str, target: str, *, writable: bool) -> None:
    """The same file or folder at another place, in a tree that is being laid out."""
    if os.path.isdir(source):  # noqa: PTH112
        Path(target).mkdir(parents=True, exist_ok=True)
    elif not os.path.lexists(target):
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        Path(target).touch()
    mount(source, target, flags=BIND | REC)
    if not writable:
        has = os.statvfs(target).f_flag
        keep = sum(flag for said, flag in KEPT_FLAGS.items() if has & said)
        mount("", target, flags=BIND | REMOUNT | RDONLY | keep)


def lay_out(spec: dict[str, Any]) -> None:
    """Make the machine's own file system and go to live in it."""
    root = spec["root"]
    mount("none", "/", flags=REC | PRIVATE)
    mount("tmpfs", root, "tmpfs", data="mode=755")
    for name in SYSTEM:
        if os.path.islink(f"/{name}"):  # noqa: PTH114
            Path(root, name).symlink_to(os.readlink(f"/{name}"))  # noqa: PTH115
        elif os.path.isdir(f"/{name}"):  # noqa: PTH112
            bind(f"/{name}", f"{root}/{name}", writable=False)
    for name in ("proc", "run"):
        Path(root, name).mkdir()
    mount("proc", f"{root}/proc", "proc")
    mount("tmpfs", f"{root}/run", "tmpfs", data="mode=755")
    bind("/sys", f"{root}/sys", writable=True)
    bind("/dev", f"{root}/dev", writable=True)
    mount("tmpfs", f"{root}/dev/shm", "tmpfs", data="mode=1777")
    Path(root, "run/sshd").mkdir(mode=0o755)
    for source, target, writable in spec["binds"]:
        bind(source, root + target, writable=writable)
    for target in spec["masked"]:
        bind(spec["nothing"], root + target, writable=False)
    os.chdir(root)
    with contextlib.suppress(OSError):
        socket.sethostname(spec["hostname"])
    change_root()


def change_root() -> None:
    number = PIVOT_ROOT.get(os.uname().machine)
    if number is None:
        os.chroot(".")
    else:
        checked(LIBC.syscall(number, b".", b"."), "pivot_root")
        checked(LIBC.umount2(b".", DETACH), "umount")
    os.chdir("/")


def own_user(uid: int, gid: int) -> None:
    """Back from the root of a user namespace to the user who made it: sshd can be no half root."""
    checked(LIBC.unshare(NEW_USER), "unshare")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{uid} 0 1")
    Path("/proc/self/gid_map").write_text(f"{gid} 0 1")


def below(pid: int) -> list[tuple[int, str]]:
    """Every process that descends from this one, with its short name."""
    children: dict[int, list[tuple[int, str]]] = {}
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            number, text = int(entry.name), (entry / "stat").read_text()
            name = text[text.index("(") + 1 : text.rindex(")")]
            parent = int(text[text.rindex(")") + 1 :].split()[1])
            children.setdefault(parent, []).append((number, name))
    found: list[tuple[int, str]] = []
    todo = [pid]
    while todo:
        more = children.get(todo.pop(), [])
        found += more
        todo += [child for child, _ in more]
    return found


def listening(port: int) -> bool:
    """Whether somebody listens on it: state 0A of the kernel's table."""
    rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return any(row[1].endswith(f":{port:04X}") and row[3] == "0A" for row in rows)


class Machine:
    """A running machine: its sshd and everything that sshd has started."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.sshd: list[str] = spec["sshd"]
        self.startup: list[str] = spec["startup"]
        self.port: int = spec["port"]
        self.ids: list[int] | None = spec["ids"]
        self.listener: int | None = None

    def open(self) -> None:
        """Let people in."""
        if self.listener is None:
            self.listener = self._start(self.sshd)
            while not listening(self.port):
                self.reap()
                if self.listener is None:
                    raise RuntimeError("sshd has ended")
                time.sleep(0.005)

    def script(self) -> None:
        """Run the startup script, beside everything else."""
        self._start(self.startup)

    def _start(self, program: list[str]) -> int:
        pid = os.fork()
        if pid:
            return pid
        try:
            os.setsid()
            nothing = os.open("/dev/null", os.O_RDWR)
            for descriptor in (0, 1, 2):
                os.dup2(nothing, descriptor)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            if self.ids is not None:
                own_user(*self.ids)
            os.execv(program[0], program)
        finally:
            os._exit(127)

    def close(self) -> None:
        """Let nobody in, and throw out who is there; what they have started goes on."""
        self._each_sshd(signal.SIGKILL)
        self.listener = None

    def hang(self) -> None:
        """Be silent: who connects or is connected waits."""
        self._each_sshd(signal.SIGSTOP)

    def thaw(self) -> None:
        """Go on as if nothing had been."""
        self._each_sshd(signal.SIGCONT)

    def _each_sshd(self, what: signal.Signals) -> None:
        for pid, name in below(os.getpid()):
            if name.startswith("sshd"):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, what)

    def reap(self) -> None:
        """Take note of every child that has ended, ours or left to us."""
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG)[0]) != 0:
                if ended == self.listener:
                    self.listener = None

    def end(self) -> None:
        """Kill everything. As the first of a namespace this is done by dying, otherwise by hand."""
        while os.getpid() != 1 and (rest := below(os.getpid())):
            for pid, _ in rest:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.reap()
            time.sleep(0.01)


def obey(machine: Machine) -> None:
    """Until the orders end."""
    ears, wake = os.pipe()
    os.set_blocking(ears, False)
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    for unheard in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(unheard, signal.SIG_IGN)
    begun = b""
    while True:
        ready, _, _ = select.select([0, ears], [], [])
        if ears in ready:
            os.read(ears, 4096)
            machine.reap()
        if 0 in ready:
            heard = os.read(0, 4096)
            if not heard:
                return
            *orders, begun = (begun + heard).split(b"\n")
            for order in orders:
                getattr(machine, order.decode())()
                os.write(1, b"done " + order + b"\n")


def main() -> None:
    spec = json.loads(Path(sys.argv[1]).read_text())
    if spec["mode"] == "plain":
        with contextlib.suppress(AttributeError):
            LIBC.prctl(SUBREAPER, 1, 0, 0, 0)
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # as the system's own service does
    else:
        lay_out(spec)
    machine = Machine(spec)
    os.write(1, b"up\n")
    try:
        obey(machine)
    finally:
        machine.end()


if __name__ == "__main__":
    main()
