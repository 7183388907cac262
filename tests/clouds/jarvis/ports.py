"""Ports of the gateway: held for a machine as long as it runs, and soon another's."""

from __future__ import annotations

import contextlib
import socket
from dataclasses import dataclass, field


@dataclass
class Ports:
    """Ports of 127.0.0.1 for sshds. One that is given back is the next to be taken.

    Each is bound here, without listening, for as long as the provider runs: so no other program can
    get it, while an sshd, which asks to share the address, still can.
    """

    held: dict[int, socket.socket] = field(default_factory=dict)
    free: list[int] = field(default_factory=list)

    def take(self) -> int:
        """A port nobody listens on."""
        return self.free.pop() if self.free else self._hold(0)

    def again(self, port: int) -> None:
        """The port of a machine that runs already."""
        with contextlib.suppress(OSError):  # taken meanwhile: that machine is out of reach
            self._hold(port)

    def _hold(self, port: int) -> int:
        held = socket.socket()
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", port))
        number: int = held.getsockname()[1]
        self.held[number] = held
        return number

    def give(self, port: int) -> None:
        """Its machine needs it no more."""
        self.free.append(port)

    def close(self) -> None:
        """Hold none any more."""
        for held in self.held.values():
            held.close()
