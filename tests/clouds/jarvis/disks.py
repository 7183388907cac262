"""What lies on the machines' disks, and what is lost when they are paused."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import uuid
from dataclasses import dataclass
from pathlib import Path

KEPT_BY_A_CONTAINER = ("home",)
FOLDERS = ("home", "root", "workspace", "tmp", "var/tmp", "opt", "srv", "mnt")
OPEN_TO_ALL = ("tmp", "var/tmp")


@dataclass(frozen=True)
class Disk:
    """The folders of one machine. `etc` is the provider's own: keys, settings, the sshd's log."""

    place: Path

    @property
    def etc(self) -> Path:
        return self.place / "etc"

    @property
    def home(self) -> Path:
        return self.place / "home"

    def make(self, owner: int | None = None) -> None:
        """What is missing of it; a VM's own home belongs to its user."""
        for name in FOLDERS:
            (self.place / name).mkdir(parents=True, exist_ok=True)
        for name in OPEN_TO_ALL:
            (self.place / name).chmod(0o1777)
        for name in ("etc", "ns"):
            (self.place / name).mkdir(exist_ok=True)
        (self.etc / "nothing").touch(mode=0o444)
        if owner is not None:
            ubuntu = self.home / "ubuntu"
            ubuntu.mkdir(exist_ok=True)
            os.chown(ubuntu, owner, owner)

    def tops(self) -> list[str]:
        """The folders at the root of the machine."""
        return sorted({name.split("/")[0] for name in FOLDERS})

    def shrink(self, mib: int) -> None:
        """Make /home so small, now; it is empty, and in our own mount namespace."""
        self.home.mkdir(parents=True, exist_ok=True)
        options = f"size={mib}m,mode=755"
        command = ["mount", "-t", "tmpfs", "-o", options, "loopback", str(self.home)]
        subprocess.run(command, check=True, capture_output=True)

    def fill(self, leave: int) -> None:
        """Take the space of /home until so many bytes are left. Only sensible where it is small."""
        space = os.statvfs(self.home)
        with (self.home / ".filler").open("ab") as file:
            os.posix_fallocate(
                file.fileno(), file.tell(), max(1, space.f_bavail * space.f_frsize - leave)
            )

    def wipe(self, trash: Path) -> None:
        """What a container loses when it is paused: all but /home."""
        for name in self.tops():
            if name not in KEPT_BY_A_CONTAINER:
                throw_away(self.place / name, trash)
        throw_away(self.etc / "host_key", trash)

    def remove(self, trash: Path) -> None:
        """All of it."""
        if self.home.is_mount():
            subprocess.run(["umount", "--lazy", str(self.home)], check=True, capture_output=True)
        throw_away(self.place, trash)


def throw_away(path: Path, trash: Path) -> None:
    """Gone at once; the work of removing goes on beside."""
    if path.exists():
        trash.mkdir(exist_ok=True)
        away = trash / uuid.uuid4().hex
        path.rename(away)
        if away.is_dir():
            threading.Thread(target=shutil.rmtree, args=(away, True)).start()
        else:
            away.unlink()
