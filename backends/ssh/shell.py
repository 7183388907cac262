"""What is said to the shell at the far end of a connection."""

from __future__ import annotations

import os
import secrets
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

CONNECT_S = 60.0
"""A connection that has not run its first command by then has failed; ssh's own limit (10 s) does
not count what a busy machine takes to start a shell."""
_PYTHONS = (
    "python3 python /usr/bin/python3 /usr/local/bin/python3 /opt/conda/bin/python3 "
    "/venv/bin/python3 /opt/venv/bin/python3 python3.14 python3.13 python3.12 python3.11 "
    "python3.10 python3.9 pypy3"
)
_PROBE = (
    "import sys, hashlib, json, struct, zlib\nif sys.version_info >= (3, 9): print(sys.executable)"
)


@dataclass(frozen=True)
class Marker:
    """What the far end prints before it hands over to a command, and after one has ended."""

    one: str
    two: str

    @classmethod
    def new(cls) -> Self:
        """One that nothing there can print by chance."""
        return cls(secrets.token_hex(8), secrets.token_hex(8))

    @property
    def seen(self) -> bytes:
        """The marker as it is printed."""
        return f"{self.one}{self.two}".encode()

    @property
    def printing(self) -> str:
        """The shell command that prints it."""
        return f"printf %s%s {self.one} {self.two}"


def login(script: str) -> str:
    """The command line that runs a script in a login shell."""
    return shlex.join(["exec", "sh", "-lc", script])


def looking(marker: Marker) -> str:
    """The script that prints where a Python is, or nothing, and then the marker."""
    return (
        f"for p in {_PYTHONS}; do "
        f'f=$("$p" -I -S -c {shlex.quote(_PROBE)} 2>/dev/null </dev/null) && [ -n "$f" ] '
        f'&& break; f=; done; printf %s "$f"; {marker.printing}'
    )


def surroundings() -> Mapping[str, str]:
    """Ours, but for what changes ssh's messages or lets it ask."""
    hidden = {"SSH_ASKPASS", "SSH_ASKPASS_REQUIRE", "SSH_AUTH_SOCK", "DISPLAY", "LANGUAGE"}
    return {**{k: v for k, v in os.environ.items() if k not in hidden}, "LC_ALL": "C"}
