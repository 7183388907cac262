"""The long way that other tests put between two ends: it loses nothing until it is told to."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest
from delay_proxy import Proxy


@pytest.fixture
def echo() -> Iterator[int]:
    """A port of this machine that says back what it hears, to one who asks."""
    listener = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        with contextlib.suppress(OSError), listener.accept()[0] as heard:
            while chunk := heard.recv(1 << 16):
                heard.sendall(chunk)

    thread = threading.Thread(target=answer)
    thread.start()
    yield int(listener.getsockname()[1])
    listener.close()
    thread.join(10)


def test_what_goes_in_comes_out_whole_and_in_order(echo: int) -> None:
    sent = bytes(range(256)) * 4096
    with Proxy(echo, delay_s=0.01) as proxy:
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=20) as here:
            threading.Thread(target=lambda: here.sendall(sent)).start()
            got = b""
            while len(got) < len(sent):
                got += here.recv(1 << 16)
        assert got == sent
        assert proxy.passed == [len(sent), len(sent)]


def test_it_breaks_at_the_byte_it_was_told(echo: int) -> None:
    with Proxy(echo) as proxy:
        proxy.cut_after(up=1000)
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=20) as here:
            here.sendall(b"x" * 5000)
            with contextlib.suppress(ConnectionResetError):
                while here.recv(1 << 16):
                    pass
        assert proxy.passed[0] == 1000
        assert proxy.cuts >= 1
