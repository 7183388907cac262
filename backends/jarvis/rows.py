"""A machine as the provider lists it, read so that one odd row does not hide the others."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from backends.ssh.host import Target

RUNNING = "Running"
PAUSED = "Paused"
FAILED = "Failed"
_ENDED = frozenset({"destroyed", "deleted"})
_ENDING = frozenset({"destroying"}) | _ENDED


@dataclass(frozen=True)
class Row:
    """One machine of the account.

    template  what it was made from: a container's template, or `vm`
    cost      what the provider says it has cost since it last started; None when it does not say
    ssh       how it is reached; None while it is not running, or when no key was there at its boot
    """

    id: int
    name: str
    status: str
    region: str = ""
    template: str = ""
    gpu: str | None = None
    count: int = 1
    spot: bool = False
    disk_gib: int = 0
    cost: Decimal | None = None
    ssh: Target | None = None

    @property
    def running(self) -> bool:
        """The GPU bills."""
        return self.status == RUNNING

    @property
    def paused(self) -> bool:
        """Only the disk bills."""
        return self.status == PAUSED

    @property
    def failed(self) -> bool:
        """It did not come up; the row stays until it is destroyed."""
        return self.status == FAILED

    @property
    def ending(self) -> bool:
        """The provider has begun to destroy it."""
        return self.status.lower() in _ENDING

    @property
    def ended(self) -> bool:
        """The provider has destroyed it, and still shows the row."""
        return self.status.lower() in _ENDED

    @property
    def vm(self) -> bool:
        """A virtual machine: its whole disk outlives a pause."""
        return self.template == "vm"

    @property
    def cpu_vm(self) -> bool:
        """A virtual machine without a GPU; it has calls of its own."""
        return self.vm and self.gpu == "CPU"


def parse(rows: Iterable[Any]) -> list[Row]:
    """The rows that say at least which machine they are about and how it stands."""
    found = (_row(row) for row in rows if isinstance(row, Mapping))
    return [row for row in found if row is not None]


def _row(raw: Mapping[str, Any]) -> Row | None:
    try:
        machine, status = int(raw["machine_id"]), str(raw["status"])
    except (KeyError, TypeError, ValueError):
        return None
    return Row(
        id=machine,
        name=str(raw.get("instance_name") or raw.get("name") or ""),
        status=status,
        region=str(raw.get("region") or ""),
        template=str(raw.get("framework") or raw.get("template") or ""),
        gpu=str(raw["gpu_type"]) if raw.get("gpu_type") else None,
        count=_whole(raw.get("num_gpus")) or 1,
        spot=bool(raw.get("is_spot")),
        disk_gib=_whole(raw.get("hdd") or raw.get("storage_gb")),
        cost=_decimal(raw.get("cost")),
        ssh=target(str(raw.get("ssh_str") or "")) if status == RUNNING else None,
    )


def target(command: str) -> Target | None:
    """Where `ssh … -p 11014 root@host` leads; None for anything that is not such a command.

    Only the place is taken from it. Its options are not: the provider's turn off the check of the
    machine's identity.
    """
    try:
        words = shlex.split(command)
    except ValueError:
        return None
    if not words or words[0] != "ssh":
        return None
    user, host, port = "root", "", 22
    rest = iter(words[1:])
    for word in rest:
        if word in {"-p", "-l", "-o", "-i", "-F", "-J"}:
            value = next(rest, "")
            if word == "-p" and value.isdigit():
                port = int(value)
            elif word == "-l":
                user = value
        elif not word.startswith("-") and not host:
            user, _, host = word.rpartition("@") if "@" in word else (user, "", word)
    if not host or host.startswith("-") or not re.fullmatch(r"[\w.:-]+", host):
        return None
    return Target(user=user, host=host, port=port)


def _whole(value: object) -> int:
    digits = re.match(r"\d+", str(value).strip()) if value is not None else None
    return int(digits.group()) if digits else 0


def _decimal(value: object) -> Decimal | None:
    try:
        found = Decimal(str(value))
    except (InvalidOperation, TypeError):
        return None
    return found if found.is_finite() else None
