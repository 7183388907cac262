"""SkyPilot and its clusters, from a test: started, asked, hurt and ended.

with Sky(tmp_path) as sky:
    ... os.environ | sky.environ ...
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from clouds.skypilot.home import USER, Home
from clouds.skypilot.ports import free_ports, server_port
from clouds.skypilot.slurm import Slurm

NEEDED = ("slurmctld", "slurmd", "sbatch", "sshd", "ssh", "rsync", "socat", "nc", "unshare", "curl")
PACKAGES = "slurm-wlm openssh-server openssh-client rsync socat netcat-openbsd curl"
_PATIENCE_S = 120.0
_TESTS = Path(__file__).parents[2]
_MOUNT = """
for pair in $MOUNTS; do mount --bind "${pair#*=}" "${pair%%=*}" || exit 125; done
unset MOUNTS
exec "$@"
"""


def missing_parts() -> str:
    """What the rig needs and this machine lacks, in a phrase; empty when it has all."""
    found = [name for name in NEEDED if shutil.which(name, path=_path()) is None]
    if os.geteuid() != 0:
        return "root (Slurm's daemons and sshd)"
    return f"{', '.join(found)} (Debian: {PACKAGES})" if found else ""


def _path() -> str:
    return os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


class _Side:
    """The laptop's or the cluster's namespace."""

    def __init__(self, folder: Path, side: str, mounts: Mapping[str, Path]) -> None:
        (folder / "log").mkdir(exist_ok=True)
        shown = {"/etc/passwd": folder / f"passwd-{side}", "/etc/hosts": folder / "hosts"}
        pairs = [f"{at}={path}" for at, path in {**shown, **mounts}.items()]
        self._process = subprocess.Popen(
            [
                # Whatever is started in it, and by whomever, ends with it.
                *("unshare", "-m", "-p", "--fork", "--kill-child", "--mount-proc"),
                *("sh", "-c", _MOUNT, "sh", sys.executable, str(_TESTS / "clouds" / "init.py")),
                *(sys.executable, "-m", "clouds.skypilot.world", str(folder), side),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={"PATH": _path(), "PYTHONPATH": str(_TESTS), "MOUNTS": " ".join(pairs)},
            text=True,
        )
        self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the rig's own process has ended"
        return dict(json.loads(line))

    def ask(self, **what: Any) -> dict[str, Any]:
        """One request and its answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def end(self) -> None:
        """Everything that it started ends."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()


class Sky:
    """The API server and one or more Slurm clusters.

    clusters  their names, each with its number of nodes
    software  a folder of programs that the nodes have first on their PATH
    """

    def __init__(
        self,
        folder: Path,
        clusters: dict[str, int] | None = None,
        *,
        software: Path | None = None,
    ) -> None:
        self.folder = folder.absolute()
        self._software = software
        self.home = Home(self.folder)
        found = clusters or {"tiny": 1}
        self.clusters = [
            Slurm.new(name, self.folder / name, nodes=nodes) for name, nodes in found.items()
        ]
        (self.login_port,) = free_ports(1)
        self.port = server_port()

    @property
    def url(self) -> str:
        """Where the API server answers."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def environ(self) -> dict[str, str]:
        """What a user of this SkyPilot has set."""
        return {
            "HOME": str(self.home.sky),
            "SKYPILOT_API_SERVER_ENDPOINT": self.url,
            "SKYPILOT_API_SERVER_LOCAL_PORT": str(self.port),
            "SKYPILOT_DISABLE_USAGE_COLLECTION": "1",
        }

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.home.lay_out(self.clusters, self.login_port)
        for one in self.clusters:
            one.lay_out()
        self._cluster = _Side(self.folder, "cluster", self._on_nodes())
        self._laptop = _Side(self.folder, "laptop", {})
        try:
            self._start_clusters()
            self.start_server()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End everything."""
        self._laptop.end()
        self._cluster.end()

    def _on_nodes(self) -> dict[str, Path]:
        """What the clusters' side has in the place of this machine's files."""
        shown = {str(shutil.which("curl")): self.home.bin / "curl"}
        if self._software is not None:
            profile = self.folder / "profile"
            own = Path("/etc/profile").read_text()
            profile.write_text(f"{own}\nexport PATH={self._software}:$PATH\n")
            shown["/etc/profile"] = profile
        return shown

    # ── the clusters ──────────────────────────────────────────────────────────────────────────

    def _start_clusters(self) -> None:
        env = {
            "PATH": _path(),
            "HOME": str(self.home.slurm),
            "SLURM_CONF": str(self.clusters[0].conf),
        }
        for one in self.clusters:
            env = {**env, "SLURM_CONF": str(one.conf)}
            for name, argv in one.daemons().items():
                self._cluster.ask(do="start", name=name, argv=argv, env=env)
        self._login: dict[str, Any] = {"name": "sshd", "argv": self._sshd(), "env": env}
        self._cluster.ask(do="start", **self._login)

    def lose_node(self, node: str) -> None:
        """A node dies with all that runs on any, and its Slurm sees that it does not answer."""
        self._cluster.ask(do="end", name=f"slurmd-{node}", signal=int(signal.SIGKILL))
        self._cluster.ask(do="kill", name="slurmstepd")
        self.slurm("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=dead")

    def bring_back(self, node: str) -> None:
        """The node is there again, with nothing on it."""
        (one,) = [one for one in self.clusters if node in one.nodes]
        argv = one.daemons()[f"slurmd-{node}"]
        self._cluster.ask(do="start", name=f"slurmd-{node}", argv=argv, env=self._login["env"])
        self.slurm("scontrol", "update", f"NodeName={node}", "State=RESUME")

    def restart_sshd(self) -> None:
        """The login node drops every connection, and takes new ones."""
        self._cluster.ask(do="end", name="sshd", signal=int(signal.SIGKILL))
        self._cluster.ask(do="start", **self._login)

    @contextlib.contextmanager
    def silent_sshd(self) -> Iterator[None]:
        """While entered, the login node is stopped, as a process can be."""
        self._cluster.ask(do="signal", name="sshd", signal=int(signal.SIGSTOP))
        try:
            yield
        finally:
            self._cluster.ask(do="signal", name="sshd", signal=int(signal.SIGCONT))

    def _sshd(self) -> list[str]:
        key = self.folder / "host_key"
        if not key.exists():
            argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(key)]
            subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        config = self.folder / "sshd_config"
        config.write_text(
            f"""Port {self.login_port}
ListenAddress 127.0.0.1
HostKey {key}
PidFile none
UsePAM no
PasswordAuthentication no
PermitRootLogin prohibit-password
StrictModes no
MaxSessions 200
MaxStartups 200
AcceptEnv SKY_CLUSTER_NAME
SetEnv SLURM_CONF={self.clusters[0].conf} PATH={_path()}
Subsystem sftp internal-sftp
"""
        )
        program = shutil.which("sshd", path=_path())
        assert program is not None
        return [program, "-D", "-e", "-f", str(config)]

    def make_cluster(self, name: str, *, nodes: int = 1) -> None:
        """A cluster of the user's own, made with SkyPilot's own command line."""
        place = ["--infra", f"slurm/{self.clusters[0].name}", "--cpus", "4", "--memory", "8"]
        self._sky("launch", "-y", "-c", name, *place, "--num-nodes", str(nodes))

    def down(self, name: str) -> None:
        """Take a cluster down with SkyPilot's own command line."""
        self._sky("down", "-y", name)

    def _sky(self, *words: str) -> None:
        argv = [sys.executable, "-c", "from sky.client.cli.command import cli; cli()", *words]
        env = {**os.environ, **self.environ}
        done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def slurm(self, *command: str, cluster: str | None = None) -> str:
        """What a command of Slurm's prints."""
        wanted = cluster or self.clusters[0].name
        conf = next(one.conf for one in self.clusters if one.name == wanted)
        env = {"PATH": _path(), "SLURM_CONF": str(conf)}
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
        return done.stdout

    def allocations(self) -> list[str]:
        """The names of the jobs that hold nodes of Slurm's, on every cluster.

        Not those that are being ended: Slurm has heard, and sees to the rest.
        """
        ask = ("squeue", "-h", "-t", "PENDING,CONFIGURING,RUNNING,SUSPENDED", "-o", "%j")
        said = [self.slurm(*ask, cluster=one.name) for one in self.clusters]
        return [name for text in said for name in text.split()]

    def still_held(self, patience_s: float = 60.0) -> list[str]:
        """`allocations`, once what a `down` began has had its time to clean up and end."""
        end = time.monotonic() + patience_s
        while (found := self.allocations()) and time.monotonic() < end:
            time.sleep(0.5)
        return found

    def cluster_names(self) -> list[str]:
        """What the API server's own database lists, whoever may see it."""
        path = self.home.sky / ".sky" / "state.db"
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as base:
            return [str(name) for (name,) in base.execute("SELECT name FROM clusters")]

    def on_cloud(self, cluster: str) -> str:
        """What SkyPilot calls a cluster of that name at Slurm, where it has one."""
        return next((name for name in self.allocations() if name.startswith(cluster[:20])), "")

    # ── the API server ────────────────────────────────────────────────────────────────────────

    def start_server(self) -> None:
        """Start the API server, and wait until it answers."""
        env = {
            **self.environ,
            "PATH": f"{Path(sys.executable).parent}:{_path()}",
            "PYTHONPATH": str(self.home.site),
            "USER": USER,
        }
        argv = [sys.executable, "-m", "sky.server.server", "--host", "127.0.0.1"]
        argv += ["--port", str(self.port)]
        end = time.monotonic() + _PATIENCE_S
        self._laptop.ask(do="start", name="server", argv=argv, env=env)
        while not self.answers():
            assert time.monotonic() < end, (self.folder / "log" / "server.log").read_text()[-4000:]
            time.sleep(0.2)
            # A port that it needs may be taken for a moment: a user would start it again.
            if self._laptop.ask(do="look", name="server")["code"] is not None:
                time.sleep(2)
                self._laptop.ask(do="start", name="server", argv=argv, env=env)

    def end_server(self, number: int = signal.SIGKILL) -> None:
        """End the API server, and all that it started."""
        self._laptop.ask(do="end", name="server", signal=int(number))

    @contextlib.contextmanager
    def silence(self) -> Iterator[None]:
        """While entered, the API server and its workers are stopped: nobody answers."""
        self._laptop.ask(do="signal", name="server", signal=int(signal.SIGSTOP))
        try:
            yield
        finally:
            self._laptop.ask(do="signal", name="server", signal=int(signal.SIGCONT))

    def answers(self) -> bool:
        """Whether the API server says that it is well."""
        try:
            with urllib.request.urlopen(f"{self.url}/api/health", timeout=2) as answer:
                return bool(json.loads(answer.read()).get("status") == "healthy")
        except (OSError, ValueError, urllib.error.URLError):
            return False
