"""The HOME of SkyPilot's user and of its Slurm clusters' user, and what is shown of the machine."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from clouds.skypilot.slurm import Slurm

from launcher.environment import pipconf

_SHIM = """#!/bin/sh
# In the place of the clusters' curl: SkyPilot fetches its installer of uv with it.
case "$*" in
*astral.sh/uv*) cat {installer} ;;
*) exec {curl} "$@" ;;
esac
"""
_INSTALLER = """mkdir -p "${{UV_INSTALL_DIR:-$HOME/.local/bin}}"
cp {wrapper} "${{UV_INSTALL_DIR:-$HOME/.local/bin}}/uv"
"""
_WRAPPER = """#!/bin/sh
# The Python that SkyPilot asks for cannot be fetched: this machine's own takes its place. Packages
# come from where this machine's pip has them from.
{exports}
for word; do
    shift
    [ "$word" = 3.10 ] && word={python}
    set -- "$@" "$word"
done
exec {uv} "$@"
"""
_SITE = """# The controller of managed jobs looks for two public addresses: it finds its own server.
# One controller is enough: each is a process that imports all of SkyPilot, and by this machine's
# memory a server starts a dozen.
import importlib.abc, importlib.util, os, sys

def _addresses(module):
    port = os.environ["SKYPILOT_API_SERVER_LOCAL_PORT"]
    module._TEST_IP_LIST = ["http://127.0.0.1:" + port]

def _controllers(module):
    module.get_number_of_jobs_controllers = lambda: 1

_CHANGES = {"sky.backends.backend_utils": _addresses, "sky.utils.controller_utils": _controllers}

class _Found(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        change = _CHANGES.pop(name, None)
        if change is None:
            return None
        found = importlib.util.find_spec(name)
        run = found.loader.exec_module
        def patched(module):
            run(module)
            change(module)
        found.loader.exec_module = patched
        return found

sys.meta_path.insert(0, _Found())
"""


@dataclass(frozen=True)
class Home:
    """Folders below one folder.

    sky    HOME of the user at the laptop, and of the API server
    slurm  HOME of the clusters' user: what Slurm's nodes share
    """

    folder: Path

    @property
    def sky(self) -> Path:
        return self.folder / "home"

    @property
    def slurm(self) -> Path:
        return self.folder / "shared"

    @property
    def bin(self) -> Path:
        return self.folder / "bin"

    @property
    def site(self) -> Path:
        """On the PYTHONPATH of the API server alone."""
        return self.folder / "site"

    def lay_out(self, clusters: Sequence[Slurm], login_port: int) -> None:
        """Write all of it."""
        for folder in (self.sky, self.slurm, self.bin, self.site):
            folder.mkdir(parents=True, exist_ok=True)
        self._shims()
        self._ssh(clusters, login_port)
        self._sky(clusters)
        self._machine(clusters)

    def _shims(self) -> None:
        uv = Path(sys.executable).with_name("uv")
        curl = shutil.copy(str(shutil.which("curl")), self.bin / "real-curl")
        installer, wrapper = self.bin / "installer.sh", self.bin / "uv-wrapper"
        installer.write_text(_INSTALLER.format(wrapper=wrapper))
        exports = "\n".join(f"export {k}={shlex.quote(v)}" for k, v in _sources().items())
        wrapper.write_text(_WRAPPER.format(uv=uv, python=sys.executable, exports=exports))
        shim = self.bin / "curl"
        shim.write_text(_SHIM.format(installer=installer, curl=curl))
        for program in (wrapper, shim):
            program.chmod(0o755)
        (self.site / "sitecustomize.py").write_text(_SITE)

    def _ssh(self, clusters: Sequence[Slurm], port: int) -> None:
        folder = self.sky / ".slurm"
        folder.mkdir(exist_ok=True)
        key = folder / "key"
        if not key.exists():
            argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(key)]
            subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)
        theirs = self.slurm / ".ssh"
        theirs.mkdir(mode=0o700, exist_ok=True)
        shutil.copy(key.with_name("key.pub"), theirs / "authorized_keys")
        rows = [
            f"Host {one.name}\n  HostName 127.0.0.1\n  Port {port}\n  User {USER}\n"
            f"  IdentityFile {key}\n  IdentitiesOnly yes\n"
            for one in clusters
        ]
        (folder / "config").write_text("\n".join(rows))

    def _sky(self, clusters: Sequence[Slurm]) -> None:
        folder = self.sky / ".sky"
        folder.mkdir(exist_ok=True)
        # Part of what its clusters are called in `/tmp`, which several rigs share.
        (folder / "user_hash").write_text(os.urandom(4).hex())
        prices = {one.kind: 2.5 for one in clusters}
        settings = {
            "allowed_clouds": ["slurm"],
            "jobs": {"controller": {"consolidation_mode": True}},
            "slurm": {
                "provision_timeout": 30,
                "pricing": {"cpu": 0.04, "memory": 0.01, "accelerators": prices},
            },
        }
        (folder / "config.yaml").write_text(yaml.safe_dump(settings))
        common = folder / "catalogs" / "v8" / "common"
        common.mkdir(parents=True, exist_ok=True)
        rows = "".join(f'{kind},"[Slurm]"\n' for kind in prices)
        (common / "accelerators.csv").write_text(f"AcceleratorName,Clouds\n{rows}")
        rows = "".join(f"{kind},80,NVIDIA\n" for kind in prices)
        (common / "metadata.csv").write_text(f"GPU,MemoryGB,Manufacturer\n{rows}")

    def _machine(self, clusters: Sequence[Slurm]) -> None:
        nodes = [node for one in clusters for node in one.nodes]
        hosts = Path("/etc/hosts").read_text()
        (self.folder / "hosts").write_text(hosts + "".join(f"127.0.0.1 {n}\n" for n in nodes))
        for name, home in (("laptop", self.sky), ("cluster", self.slurm)):
            rows = Path("/etc/passwd").read_text().splitlines()
            rows = [row for row in rows if not row.startswith(f"{USER}:")]
            first = f"{USER}:x:0:0::{home}:/bin/bash"
            (self.folder / f"passwd-{name}").write_text("\n".join([first, *rows]) + "\n")


def _sources() -> dict[str, str]:
    """Variables of uv that say what this machine's own pip is configured with."""
    found = {k: v for k, v in os.environ.items() if k.startswith(("SSL_CERT_", "UV_"))}
    if pages := pipconf.find_links(os.environ):
        found.setdefault("UV_FIND_LINKS", ",".join(pages))
    if index := pipconf.index_url(os.environ):
        found.setdefault("UV_DEFAULT_INDEX", index)
    return {**found, "UV_CACHE_DIR": found.get("UV_CACHE_DIR", str(Path.home() / ".cache" / "uv"))}


USER = "root"
"""At the laptop and on the clusters: each side has a passwd of its own, and so a HOME."""
