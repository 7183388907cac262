"""Ports that nobody listens on."""

from __future__ import annotations

import contextlib
import random
import socket


def free_ports(count: int) -> list[int]:
    """Different ports of 127.0.0.1, free just now."""
    with contextlib.ExitStack() as stack:
        found = []
        for _ in range(count):
            one = stack.enter_context(socket.socket())
            one.bind(("127.0.0.1", 0))
            found.append(int(one.getsockname()[1]))
    return found


def server_port() -> int:
    """A port for SkyPilot's API server, which takes another one, that follows from it, as well.

    Not one of those that a connection gets by itself: it is to be free for a restart, too.
    """
    while True:
        port = random.randrange(20000, 30000)
        # Of SkyPilot 0.14: `sky.server.requests.queues.mp_queue.get_queue_manager_port`.
        queue = 50000 + (11 + port - 46580) % 10000
        if _is_free(port) and _is_free(queue):
            return port


def _is_free(port: int) -> bool:
    with socket.socket() as one, contextlib.suppress(OSError):
        one.bind(("127.0.0.1", port))
        return True
    return False
