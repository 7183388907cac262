"""From a cluster's record to its workplace: over the ssh alias that SkyPilot writes for it.

On Slurm the run directories are on the disk that its nodes share, in the user's own home there:
once the cluster is gone they are reached over the login node, as `~/.slurm/config` says.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path, PurePosixPath

from backends.errors import Lost, NotLaunched, Unreachable
from backends.protocol import Progress
from backends.skypilot.addresses import address
from backends.skypilot.records import Cluster, Held, Records
from backends.skypilot.server import Server
from backends.skypilot.stores import Store
from backends.skypilot.unanswered import START_NONE
from backends.ssh.errors import SshError
from backends.ssh.host import Host, Target
from backends.ssh.lingering import LONGEST_FOLDER
from backends.ssh.workplace import Workplace

FOLDER = "ftlaunch"
"""What a folder of ours is called in the user's home on a cluster."""

_PATIENCE = timedelta(minutes=3)
_SOON = timedelta(minutes=1)
_ALIAS_S = 120.0
_HOME = 'getent passwd "$(id -u)" | cut -d: -f6 | grep . || printf \'%s\\n\' "$HOME"'


class Reach:
    """The workplaces of one process's clusters."""

    def __init__(self, server: Server, records: Records, environ: Mapping[str, str]) -> None:
        self._server = server
        self._records = records
        self._environ = environ
        self._hosts: dict[str, Host] = {}
        self._stores: dict[str, Store] = {}

    def store(self, url: str) -> Store:
        """The bucket that jobs are kept in, opened on first use. Raises BadInput."""
        if url not in self._stores:
            self._stores[url] = Store(address(url))
        return self._stores[url]

    def forget(self, cluster: Cluster) -> None:
        """Let go of the connection to a cluster."""
        for node in range(cluster.nodes):
            if (known := self._hosts.pop(_alias(cluster, node), None)) is not None:
                known.close()

    def workplace(self, cluster: Cluster, node: int = 0) -> Workplace:
        """Where jobs lie: on the cluster while it is up, else on the disk that it shared.

        node  one of several has a folder of its own, since their disk may be one; on such a disk
              they share caches, and see the earlier jobs of the first one
        Raises Lost when there is neither, Unreachable when SkyPilot does not say how it is reached.
        """
        # One that is on its way out loses its alias before it is gone.
        gone = cluster.held is Held.GONE or (cluster.held is Held.ENDING and cluster.shared)
        host = self._login(cluster) if gone or cluster.managed else self.host(cluster, node)
        root, by = PurePosixPath(cluster.root), self._records.computer()
        if not node:
            return Workplace(host, root, by=by)
        mine, earlier = root / "nodes" / str(node), root if cluster.shared else None
        return Workplace(host, mine, cache_root=root, by=by, earlier=earlier)

    def others(self, cluster: Cluster, job: str) -> list[Workplace]:
        """The workplaces of a job on its nodes, but for the first. Raises as `workplace`."""
        return [self.workplace(cluster, node) for node in range(1, cluster.jobs[job].nodes)]

    def ready(self, cluster: Cluster, told: Progress) -> str:
        """Wait until a cluster that is up takes commands; the folder on it that is ours.

        Raises NotLaunched.
        """
        try:
            host = self._login(cluster) if cluster.managed else self.host(cluster)
            host.wait(_PATIENCE, told=told)
            done = host.run(["sh", "-c", _HOME], timeout=_SOON)
        except SshError as error:
            if cluster.managed:
                raise NotLaunched(
                    f"the login node of {cluster.region!r} cannot be reached: {error.message}",
                    hint=f"try yourself with: ssh -F ~/.slurm/config {cluster.region}",
                ) from error
            raise NotLaunched(
                f"the cluster {cluster.name!r} is up and cannot be reached: {error.message}",
                hint=f"try yourself with: sky status {cluster.name} && ssh {cluster.name}",
            ) from error
        home = done.out.decode("utf-8", "surrogateescape").strip()
        if done.code or not home.startswith("/"):
            raise NotLaunched(f"the cluster {cluster.name!r} does not say where its home is")
        return str(PurePosixPath(home) / FOLDER)

    def host(self, cluster: Cluster, node: int = 0) -> Host:
        """The connection to a cluster's first node, or another, made on first use."""
        alias = _alias(cluster, node)
        known = self._hosts.get(alias)
        if known is None:
            config = self._config(cluster.name)
            key = config.parents[1] / "ssh-keys" / f"{cluster.name}.key"
            known = self._made(alias, config, key)
            self._hosts[alias] = known
        return known

    def _config(self, name: str) -> Path:
        """SkyPilot's own ssh configuration of a cluster: its command line is what writes it."""
        path = self._server.home / ".sky" / "generated" / "ssh" / name
        if path.exists():
            return path
        argv = [sys.executable, "-c", _COMMAND, "status", name]
        try:
            subprocess.run(
                argv,
                env={**self._environ, **START_NONE},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_ALIAS_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Unreachable(f"SkyPilot does not say how {name} is reached: {error}") from error
        if not path.exists():
            raise Unreachable(
                f"SkyPilot does not say how the cluster {name!r} is reached",
                hint=f"look with: sky status {name}",
            )
        return path

    def _login(self, cluster: Cluster) -> Host:
        """The login node of the Slurm cluster that a cluster was on. Raises Lost."""
        if not cluster.shared:
            raise Lost(f"the cluster {cluster.name!r} is gone, and its disk with it")
        name = f"login-{cluster.region}"
        known = self._hosts.get(name)
        if known is None:
            config = self._server.home / ".slurm" / "config"
            if not config.exists():
                raise Lost(
                    f"what {cluster.name} left is on the disk of the Slurm cluster "
                    f"{cluster.region!r}, and ~/.slurm/config is not on this computer"
                )
            known = self._made(cluster.region, config, _identity(config, self._environ))
            self._hosts[name] = known
        return known

    def _made(self, alias: str, config: Path, key: Path) -> Host:
        hosts = self._records.root / "hosts"
        hosts.mkdir(mode=0o700, parents=True, exist_ok=True)
        target = Target(user="", host=alias, config=config)
        # A way through the API server takes seconds to make: all our processes share it.
        return Host(
            target, key=key, known_hosts=hosts / alias, folder=self._sockets(), lingers=True
        )

    def _sockets(self) -> Path:
        """A folder with a short name, the same for all processes of this user and state folder."""
        named = hashlib.sha256(os.fsencode(self._records.root)).hexdigest()[:12]
        name = f"ftl-{os.getuid()}-{named}"
        folder = Path(tempfile.gettempdir()) / name
        if len(os.fsencode(folder)) > LONGEST_FOLDER:
            folder = Path("/tmp") / name  # noqa: S108 - made private below, or refused
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.lstat().st_uid != os.getuid() or folder.is_symlink():
            raise Unreachable(f"{folder} is somebody else's: remove it")
        return folder


def _alias(cluster: Cluster, node: int) -> str:
    """What SkyPilot's ssh configuration calls a node."""
    return f"{cluster.name}-worker{node}" if node else cluster.name


_COMMAND = "import sys; from sky.client.cli.command import cli; sys.exit(cli())"


def _identity(config: Path, environ: Mapping[str, str]) -> Path:
    """The key that a configuration names first; `~` is the user's HOME, as SkyPilot takes it."""
    home = environ.get("HOME") or str(Path.home())
    for line in config.read_text("utf-8", "replace").splitlines():
        word, _, value = line.strip().partition(" ")
        if word.lower() == "identityfile":
            path = value.strip().strip('"')
            return Path(home + path[1:] if path.startswith("~") else os.path.expanduser(path))  # noqa: PTH111
    return Path(home) / ".ssh" / "id_rsa"


@contextlib.contextmanager
def reachable(cluster: Cluster) -> Iterator[None]:
    """What ssh raises becomes Unreachable: the cluster is there, and does not answer."""
    try:
        yield
    except SshError as error:
        raise Unreachable(
            f"the cluster {cluster.name!r} does not answer: {error.message}",
            hint=error.hint or "try again; it bills until it is released",
        ) from error
