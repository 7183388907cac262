"""A lock: a complete `requirements.txt`, every package pinned, nearly all with hashes."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_PIN = re.compile(
    r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[^\s;\\]+)\s*(?:;\s*(?P<marker>[^\\]*))?"
)


@dataclass(frozen=True)
class Pin:
    """One package of a lock."""

    name: str
    version: str
    marker: str
    hashes: tuple[str, ...]

    @property
    def text(self) -> str:
        """The pin as lines of a requirements file, for exactly this version.

        `===`, since `==2.13.0` also allows `2.13.0+cpu`: a wheel folder that has it would win.
        """
        head = f"{self.name}==={self.version}" + (f" ; {self.marker}" if self.marker else "")
        return " \\\n".join([head, *(f"    --hash={value}" for value in self.hashes)]) + "\n"


@dataclass(frozen=True)
class Lock:
    """The pins of one lock, in the order of the file."""

    pins: tuple[Pin, ...]

    @property
    def digest(self) -> str:
        """A sha256 over the pins: comments and layout do not count."""
        return hashlib.sha256("".join(pin.text for pin in self.pins).encode()).hexdigest()

    @property
    def versions(self) -> dict[str, str]:
        """Name to version; a package that differs by platform is left out."""
        found: dict[str, set[str]] = {}
        for pin in self.pins:
            found.setdefault(pin.name, set()).add(pin.version)
        return {name: next(iter(values)) for name, values in found.items() if len(values) == 1}

    @property
    def hashed(self) -> tuple[Pin, ...]:
        """Pins that any index may serve, since what it serves is checked."""
        return tuple(pin for pin in self.pins if pin.hashes)

    @property
    def unhashed(self) -> tuple[Pin, ...]:
        """Pins that are taken on the word of the index they come from."""
        return tuple(pin for pin in self.pins if not pin.hashes)


def read(path: Path) -> Lock:
    """The lock in the file `path`."""
    return parse(path.read_text(encoding="utf-8"))


def parse(text: str) -> Lock:
    """The lock that `text` spells; raises ValueError for a line that is not a pin."""
    joined = re.sub(r"\\\n", " ", "\n".join(_without_comments(text.splitlines())))
    return Lock(tuple(_pin(line) for line in joined.splitlines() if line.strip()))


def _without_comments(lines: Iterable[str]) -> Iterable[str]:
    return (line for line in lines if not line.lstrip().startswith("#"))


def _pin(line: str) -> Pin:
    head, *hashes = re.split(r"\s+--hash=", line.strip())
    match = _PIN.fullmatch(head.strip())
    if match is None:
        raise ValueError(f"not a pinned requirement: {line!r}")
    return Pin(
        match["name"],
        match["version"],
        (match["marker"] or "").strip(),
        tuple(value.strip() for value in hashes),
    )
