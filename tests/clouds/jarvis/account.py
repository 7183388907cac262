"""What belongs to the account and not to a machine: keys, scripts, filesystems, money."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from clouds.jarvis.calls import Refusal, not_found
from clouds.jarvis.meter import DISK_PER_GB_HOUR, Meter

MOST_KEYS, MOST_SCRIPTS = 10, 3


@dataclass
class Key:
    key_id: str
    key_name: str
    ssh_key: str


@dataclass
class Script:
    script_id: int
    script_name: str | None
    text: str


@dataclass
class Filesystem:
    fs_id: int
    fs_name: str
    storage: int
    region: str


@dataclass
class Account:
    """One customer. Money is dollars, whatever currency the customer sees."""

    token: str
    deposit: Decimal
    keys: list[Key] = field(default_factory=list)
    scripts: list[Script] = field(default_factory=list)
    filesystems: list[Filesystem] = field(default_factory=list)
    numbers: int = 3000

    def number(self) -> int:
        """A number not given before."""
        self.numbers += 1
        return self.numbers

    def balance(self, meter: Meter) -> Decimal:
        """What is left. It may be less than nothing: disks go on."""
        return self.deposit - meter.total

    def add_key(self, name: str, text: str) -> None:
        if len(self.keys) >= MOST_KEYS:
            raise Refusal(400, f"You can add up to {MOST_KEYS} SSH keys")
        if len(text.split()) < 2:
            raise Refusal(400, "Invalid SSH key")
        self.keys.append(Key(f"key-{self.number()}", name, text))

    def remove_key(self, number: str) -> None:
        left = [key for key in self.keys if key.key_id != number]
        if len(left) == len(self.keys):
            raise not_found()
        self.keys = left

    def add_script(self, name: str | None, text: str) -> None:
        if len(self.scripts) >= MOST_SCRIPTS:
            raise Refusal(400, f"You can add up to {MOST_SCRIPTS} startup scripts")
        self.scripts.append(Script(self.number(), name, text))

    def script(self, number: int) -> Script:
        found = next((script for script in self.scripts if script.script_id == number), None)
        if found is None:
            raise not_found()
        return found

    def filesystem(self, number: int) -> Filesystem:
        found = next((one for one in self.filesystems if one.fs_id == number), None)
        if found is None:
            raise not_found()
        return found

    def make_filesystem(self, name: str, storage: int, region: str) -> Filesystem:
        """Whoever makes one pays for it until it is deleted; the caller starts the meter."""
        if not 50 <= storage <= 2048:
            raise Refusal(400, "Storage must be between 50 and 2048 GB")
        made = Filesystem(self.number(), name, storage, region)
        self.filesystems.append(made)
        return made

    def as_json(self) -> dict[str, Any]:
        """For the state file, without the key."""
        return asdict(self) | {"deposit": str(self.deposit), "token": ""}

    @classmethod
    def from_json(cls, row: dict[str, Any], token: str) -> Account:
        """What `as_json` gave, and the key."""
        return cls(
            token=token,
            deposit=Decimal(row["deposit"]),
            keys=[Key(**key) for key in row["keys"]],
            scripts=[Script(**script) for script in row["scripts"]],
            filesystems=[Filesystem(**one) for one in row["filesystems"]],
            numbers=row["numbers"],
        )


def filesystem_rate(storage: int) -> Decimal:
    """Dollars an hour."""
    return DISK_PER_GB_HOUR * storage


def folder_of(root: Path, number: int) -> Path:
    """Where the files of a filesystem are."""
    return root / "filesystems" / str(number)
