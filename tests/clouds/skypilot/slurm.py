"""One Slurm cluster: its configuration, and the daemons that make it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from clouds.skypilot.ports import free_ports

GPUS = 2
"""Fake GPUs on each node, of each kind."""


@dataclass(frozen=True)
class Slurm:
    """A cluster that jobs can be sent to.

    name   what the user's `~/.slurm/config` calls it
    kind   what its nodes' GPUs are called; they are files, and nothing computes on them
    nodes  the names of its nodes, which are all this machine
    """

    name: str
    folder: Path
    nodes: tuple[str, ...]
    control_port: int
    node_ports: tuple[int, ...]
    kind: str = "H100"

    @classmethod
    def new(cls, name: str, folder: Path, *, nodes: int = 1, kind: str = "H100") -> Slurm:
        """A cluster with free ports."""
        control, *ports = free_ports(nodes + 1)
        names = tuple(f"{name}-n{number}" for number in range(1, nodes + 1))
        return cls(name, folder, names, control, tuple(ports), kind)

    @property
    def conf(self) -> Path:
        """Its `slurm.conf`."""
        return self.folder / "slurm.conf"

    def lay_out(self) -> None:
        """Write its configuration; nothing is started."""
        for name in ("state", "pid", "log", *(f"spool-{node}" for node in self.nodes)):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(GPUS):
            (self.folder / f"gpu{number}").touch()
        self.conf.write_text(self._conf())
        rows = [
            f"NodeName={node} Name=gpu Type={self.kind} "
            f"File={self.folder}/gpu[0-{GPUS - 1}] Flags=nvidia_gpu_env\n"
            for node in self.nodes
        ]
        (self.folder / "gres.conf").write_text("".join(rows))

    def _conf(self) -> str:
        rows = [
            f"NodeName={node} NodeHostname=localhost NodeAddr=127.0.0.1 Port={port} "
            # It promises more than there is: SkyPilot asks for 4 CPUs and 16 GB beside a GPU.
            f"CPUs=16 RealMemory=256000 Gres=gpu:{self.kind}:{GPUS} State=UNKNOWN"
            for node, port in zip(self.nodes, self.node_ports, strict=True)
        ]
        return f"""ClusterName={self.name}
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={self.control_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/none
CredType=cred/none
ProctrackType=proctrack/linuxproc
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
StateSaveLocation={self.folder}/state
SlurmdSpoolDir={self.folder}/spool-%n
SlurmctldPidFile={self.folder}/pid/slurmctld.pid
SlurmdPidFile={self.folder}/pid/slurmd-%n.pid
SlurmctldLogFile={self.folder}/log/slurmctld.log
SlurmdLogFile={self.folder}/log/slurmd-%n.log
MpiDefault=none
ReturnToService=2
KillWait=2
MinJobAge=60
GresTypes=gpu
{chr(10).join(rows)}
PartitionName=main Nodes=ALL Default=YES MaxTime=12:00:00 State=UP
"""

    def daemons(self) -> dict[str, list[str]]:
        """What is to be started, in the foreground, by name."""
        found = {f"slurmctld-{self.name}": ["slurmctld", "-D", "-f", str(self.conf)]}
        for node in self.nodes:
            found[f"slurmd-{node}"] = ["slurmd", "-D", "-N", node, "-f", str(self.conf)]
        return found
