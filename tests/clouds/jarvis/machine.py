"""One rented machine as the provider knows it, and the row in which it tells."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from decimal import Decimal
from typing import Any, Literal

from clouds.jarvis.catalogue import Catalogue, cpu_price

Workload = Literal["container", "vm", "cpu"]
Reach = Literal["open", "refuse", "hang", "deny"]
"""How a machine answers to ssh.

open    as it should
refuse  nobody listens, and connections that are there break
hang    nothing is heard of it, on old and new connections, until it is open again: then they go on
deny    it knows no key any more
"""


@dataclass(frozen=True)
class Fate:
    """What will happen to machines yet to be started whose name matches.

    reach     how their sshd answers
    fail      they never run, and this is what the provider says of it
    boot      provider seconds until they run, instead of the usual
    home_mib  how small their /home is (root and namespaces only)
    keyless   the keys of the account do not reach them
    taken     somebody else gets them the moment they run: they are Paused, without a word
    """

    name: str = ".*"
    times: int = 1
    reach: Reach = "open"
    fail: str | None = None
    boot: float | None = None
    home_mib: int | None = None
    keyless: bool = False
    taken: bool = False


@dataclass
class Machine:
    """What is known of a machine. `disk` names its folder, which a resumed machine takes over.

    created, gone   provider seconds; `gone` None: it is there
    keys            those it was booted with, the only ones it will ever know
    listening       its sshd has come up
    holds           a GPU and a port are reserved for it
    """

    id: int
    name: str
    template: str
    region: str
    workload: Workload
    gpu_type: str
    num_gpus: int
    hdd: int
    is_spot: bool
    disk: str
    port: int
    created: float
    user: str
    keys: list[str]
    fs_id: int | None = None
    http_ports: str = ""
    script_id: int | None = None
    script_args: str = ""
    vcpus: int = 0
    ram: int = 0
    status: str = "Creating"
    error: str | None = None
    gone: float | None = None
    listening: bool = False
    holds: bool = False
    reach: Reach = "open"
    fate: Fate = field(default_factory=Fate)

    @property
    def vm(self) -> bool:
        return self.workload != "container"

    def rate(self, catalogue: Catalogue) -> Decimal:
        """Dollars an hour while it runs, without its disk."""
        if self.workload == "cpu":
            return cpu_price(self.vcpus, self.ram) or Decimal()
        gpu = catalogue.gpu(self.gpu_type, self.region)
        assert gpu is not None
        price = gpu.spot if self.is_spot else gpu.price
        assert price is not None
        return price * self.num_gpus

    @property
    def ssh(self) -> str:
        """The command the provider shows. Without a key at boot there is none."""
        if not self.keys:
            return ""
        return f"ssh -o StrictHostKeyChecking=no -p {self.port} {self.user}@127.0.0.1"

    def row(self, catalogue: Catalogue, cost: Decimal, now: float) -> dict[str, Any]:
        """As `users/fetch` gives it, in the service's own names."""
        up = self.status == "Running"
        address = f"https://{self.disk}.notebooksn.jarvislabs.net" if up and not self.vm else ""
        return {
            "machine_id": self.id,
            "cost": catalogue.money(cost),
            "duration": f"{int((now - self.created) // 60)} minutes",
            "gpu_type": self.gpu_type,
            "ram": f"{self.ram}GB",
            "hdd": self.hdd,
            "cores": str(self.vcpus),
            "framework": self.template,
            "framework_id": self.template,
            "version": None,
            "fs_id": self.fs_id,
            "num_gpus": self.num_gpus or None,
            "url": address,
            "ssh_str": self.ssh if up else "",
            "status": self.status,
            "v_size": 0.0,
            "endpoints": [],
            "instance_name": self.name,
            "is_reserved": None,
            "is_spot": self.is_spot,
            "frequency": "hour",
            "region": self.region,
            "disk_type": "ssd",
            "public_ip": "127.0.0.1" if up else None,
            "http_ports": self.http_ports,
            "user_id": "someone@example.com",
        }

    def as_json(self) -> dict[str, Any]:
        """For the state file and for the test's side."""
        return asdict(self)

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Machine:
        """What `as_json` gave."""
        return cls(**{**row, "fate": Fate(**row["fate"])})


@dataclass(frozen=True)
class Timings:
    """How late the provider is, in its own seconds.

    known      until `misc/status` knows a new machine
    listed     until the lists show it
    boot       until it is Running
    ssh_delay  from Running until its sshd listens
    ending     from "accepted" until a machine is really paused or gone
    """

    known: float = 1.0
    listed: float = 3.0
    boot: float = 5.0
    ssh_delay: float = 4.0
    ending: float = 3.0
