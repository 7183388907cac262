"""What a machine is like inside: who one is on it, and what a login shell finds."""

from __future__ import annotations

import os
import pwd
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Isolation = Literal["namespace", "user", "plain"]
"""How far machines are apart:

namespace   a PID, mount and host name namespace each, root inside (VMs: the user `ubuntu`)
user        the same by an unprivileged user namespace; inside, one is the user who runs the tests
plain       a process group on this machine's own file system; HOME is the machine's
"""

UBUNTU = 1000
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Template:
    """What a login shell of an image finds.

    path_first   folders put before the usual PATH (make them visible, too)
    env          further variables
    python       False: there is no Python, under none of its usual names, and nothing made visible
    says         what the image prints into every shell, login or not
    """

    path_first: Sequence[Path] = ()
    env: Mapping[str, str] | None = None
    python: bool = True
    says: str = ""

    def profile(self) -> str:
        """The machine's /etc/profile."""
        path = ":".join([*map(str, self.path_first), PATH])
        rows = [f"PATH={quoted(path)}", "export PATH"]
        rows += [f"export {name}={quoted(value)}" for name, value in (self.env or {}).items()]
        if self.says:
            rows.append(f"echo {quoted(self.says)}")
        return "\n".join(rows) + "\n"


def quoted(text: str) -> str:
    """One word for a shell."""
    return "'" + text.replace("'", "'\\''") + "'"


def login(isolation: Isolation, *, vm: bool) -> str:
    """Who one is on a machine."""
    if isolation == "namespace":
        return "ubuntu" if vm else "root"
    return pwd.getpwuid(os.geteuid()).pw_name


def passwd(user: str, home: str, isolation: Isolation) -> str:
    """The machine's /etc/passwd: its user has its home there."""
    number = UBUNTU if user == "ubuntu" and isolation == "namespace" else os.geteuid()
    group = UBUNTU if user == "ubuntu" and isolation == "namespace" else os.getegid()
    others = [
        row
        for row in Path("/etc/passwd").read_text().splitlines()
        if row.split(":")[0] != user and f":{number}:" not in row
    ]
    shell = "/bin/bash" if Path("/bin/bash").exists() else "/bin/sh"
    return "\n".join([f"{user}:x:{number}:{group}::{home}:{shell}", *others]) + "\n"


def pythons() -> list[str]:
    """Every Python that would be found under a usual name."""
    found = {
        path.resolve()
        for folder in ("/usr/bin", "/usr/local/bin")
        for path in Path(folder).glob("py*")
        if re.fullmatch(r"(python|pypy)[\d.]*", path.name)
    }
    return sorted(str(path) for path in found if path.is_relative_to("/usr"))


def sshd_config(port: int, place: str, home: str | None) -> str:
    """For an sshd whose files are at `place`; `home` is forced on it, if given."""
    rows = [
        f"Port {port}",
        "ListenAddress 127.0.0.1",
        f"HostKey {place}/host_key",
        "PidFile none",
        f"AuthorizedKeysFile {place}/authorized_keys",
        "PasswordAuthentication no",
        "KbdInteractiveAuthentication no",
        "UsePAM no",
        "PermitRootLogin prohibit-password",
        "StrictModes no",
        "UseDNS no",
        "MaxSessions 100",
        "MaxStartups 100:30:200",
        "PrintMotd no",
        "PrintLastLog no",
        "Subsystem sftp internal-sftp",
    ]
    if home is not None:
        rows.append(f"SetEnv HOME={home}")
    if _ssh_version() >= (9, 8):
        # A client that is refused on purpose must not be shut out of the next test.
        rows.append("PerSourcePenalties no")
    return "\n".join(rows) + "\n"


def _ssh_version() -> tuple[int, int]:
    said = subprocess.run(["ssh", "-V"], capture_output=True, text=True, check=False).stderr
    found = re.search(r"OpenSSH_(\d+)\.(\d+)", said)
    return (int(found[1]), int(found[2])) if found else (0, 0)
