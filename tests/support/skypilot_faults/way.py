"""The way between SkyPilot's client and its API server, which can be told what to do to a call.

    with Way(port) as way:
        way.url                                   where the client is told that its server is
        way.arm("launch", do="reset", times=1)    a fault; `way.hits(number)` says how often it met
        way.calls                                 what passed, in order

Each request is a connection of its own: what the server answers is passed on byte by byte, also
when it turns into a tunnel (the way to a cluster's ssh is one). A process of the client arms its
own faults over `/-/arm`.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

CALLS = {
    "health": ("GET", r"/api/health"),
    "answer": ("GET", r"/api/get"),
    "requests": ("GET", r"/api/status"),
    "cancel requests": ("POST", r"/api/cancel"),
    "enabled clouds": ("GET", r"/enabled_clouds"),
    "optimize": ("POST", r"/optimize"),
    "stream": ("GET", r"/api/stream"),
    "validate": ("POST", r"/validate"),
    "status": ("POST", r"/status"),
    "launch": ("POST", r"/launch"),
    "exec": ("POST", r"/exec"),
    "job status": ("POST", r"/job_status"),
    "cancel": ("POST", r"/cancel"),
    "autostop": ("POST", r"/autostop"),
    "down": ("POST", r"/down"),
}
"""Method and path. `answer` is called after what was asked: `answer to launch`."""

_CHUNK = 1 << 16
_PAGE = b"<html><title>504 Gateway Time-out</title><body>the way is closed</body></html>"


@dataclass
class Fault:
    """What is done to the next `times` calls of that name (None: to all)."""

    call: str
    do: str
    times: int | None = 1
    seconds: float = 0.0
    hits: int = 0

    def meets(self, call: str) -> bool:
        return self.call in {call, "any"} and (self.times is None or self.hits < self.times)


class Way:
    """Passes requests on to the API server at a port of this machine."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._port = int(self._listener.getsockname()[1])
        self._lock = threading.Lock()
        self._open = threading.Event()
        self._open.set()
        self._faults: list[Fault] = []
        self._asked: dict[str, str] = {}
        self._tunnels: set[socket.socket] = set()
        self.calls: list[str] = []
        self.others: dict[str, Callable[[], object]] = {}
        """What else a client may bring about, by name."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._close()

    def _close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    # ── what is to go wrong ───────────────────────────────────────────────────────────────────

    def arm(self, call: str, do: str, *, times: int | None = 1, seconds: float = 0.0) -> int:
        """The fault's number."""
        with self._lock:
            self._faults.append(Fault(call, do, times, seconds))
            return len(self._faults) - 1

    def hits(self, number: int) -> int:
        """How many calls a fault has met."""
        return self._faults[number].hits

    def forgive(self, number: int | None = None) -> None:
        """A fault, or all of them, meets nothing from now on."""
        with self._lock:
            for fault in self._faults if number is None else [self._faults[number]]:
                fault.times = 0

    def refuse(self, seconds: float) -> None:
        """Nobody listens there for so long: every connection is refused."""
        self._open.clear()
        self._close()
        threading.Timer(seconds, self._again).start()

    def bring_about(self, what: str) -> None:
        """One of `others`; returns when it is done."""
        self.others[what]()

    def cut_ssh(self) -> None:
        """Every way to a cluster's ssh that is open ends."""
        with self._lock:
            for victim in self._tunnels:
                with contextlib.suppress(OSError):
                    victim.shutdown(socket.SHUT_RDWR)

    def passed(self) -> int:
        """How many calls there were."""
        return len(self.calls)

    def _again(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self._port))
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()
        self._open.set()

    def wait_open(self) -> None:
        """Until connections are taken again."""
        assert self._open.wait(60)

    # ── what passes ───────────────────────────────────────────────────────────────────────────

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError, ValueError):
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            head, body = _request(client)
            method, path, _ = head.split(b" ", 2)
            if path.startswith(b"/-/"):
                self._told(client, path.decode(), body)
                return
            call = self._name(method.decode(), path.decode())
            with self._lock:
                self.calls.append(call)
                fault = next((one for one in self._faults if one.meets(call)), None)
                if fault is not None:
                    fault.hits += 1
            if fault is None:
                self._pass(client, call, head + body)
            else:
                self._hurt(client, call, head + body, fault)

    def _name(self, method: str, path: str) -> str:
        parts = urlsplit(path)
        # A server may be asked with a version before the path.
        for name, (how, pattern) in CALLS.items():
            if method == how and re.fullmatch(rf"(/api/v\d+)?{pattern}", parts.path):
                if name != "answer":
                    return name
                (number,) = parse_qs(parts.query).get("request_id", [""])
                return f"answer to {self._asked.get(number, 'something')}"
        return "ssh" if "ssh-proxy" in parts.path else f"{method} {parts.path}"

    def _hurt(self, client: socket.socket, call: str, request: bytes, fault: Fault) -> None:
        do = fault.do
        if do == "late":
            time.sleep(fault.seconds)
            self._pass(client, call, request)
        elif do == "reset":
            _reset(client)
        elif do.isdigit():
            _say(client, int(do), b'{"detail": "told to"}', "application/json")
        elif do == "page":
            _say(client, 200, _PAGE, "text/html")
        else:
            answer = self._answer(call, request)
            if do == "done, then reset":
                _reset(client)
            elif do == "done, then 502":
                _say(client, 502, _PAGE, "text/html")
            elif do == "done, then late":
                time.sleep(fault.seconds)
                client.sendall(answer)
            elif do == "cut":
                client.sendall(answer[: max(1, len(answer) - 20)])
                _reset(client)

    def _answer(self, call: str, request: bytes) -> bytes:
        """All that the server says."""
        with socket.create_connection(("127.0.0.1", self._to)) as server:
            server.sendall(request)
            said = b"".join(iter(lambda: server.recv(_CHUNK), b""))
        self._note(call, said)
        return said

    def _pass(self, client: socket.socket, call: str, request: bytes) -> None:
        with socket.create_connection(("127.0.0.1", self._to)) as server:
            server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            server.sendall(request)
            back = threading.Thread(target=_copy, args=(client, server), daemon=True)
            back.start()
            with self._lock:
                self._tunnels |= {client} if call == "ssh" else set()
            first = server.recv(_CHUNK)
            self._note(call, first)
            client.sendall(first)
            _copy(server, client)
            # The other direction ends with it.
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
            back.join()
            with self._lock:
                self._tunnels.discard(client)

    def _note(self, call: str, said: bytes) -> None:
        if found := re.search(rb"(?i)\r\nx-skypilot-request-id: *([^\r]+)", said):
            self._asked[found[1].decode()] = call

    def _told(self, client: socket.socket, path: str, body: bytes) -> None:
        arguments: dict[str, Any] = json.loads(body or b"{}")
        said = getattr(self, path.removeprefix("/-/"))(**arguments)
        _say(client, 200, json.dumps(said).encode(), "application/json")


def _request(client: socket.socket) -> tuple[bytes, bytes]:
    """The head, changed so that the connection ends with the answer, and the body."""
    raw = b""
    while b"\r\n\r\n" not in raw:
        if not (more := client.recv(_CHUNK)):
            raise ValueError
        raw += more
    head, _, body = raw.partition(b"\r\n\r\n")
    if found := re.search(rb"(?i)\r\ncontent-length: *(\d+)", head):
        while len(body) < int(found[1]):
            body += client.recv(_CHUNK)
    if not re.search(rb"(?i)\r\nupgrade:", head):
        head = re.sub(rb"(?i)\r\nconnection:[^\r]*", b"", head) + b"\r\nConnection: close"
    return head + b"\r\n\r\n", body


def _say(client: socket.socket, code: int, body: bytes, kind: str) -> None:
    head = f"HTTP/1.1 {code} Told\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
    client.sendall(f"{head}Connection: close\r\n\r\n".encode() + body)


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while chunk := source.recv(_CHUNK):
            target.sendall(chunk)
        target.shutdown(socket.SHUT_WR)


def _reset(victim: socket.socket) -> None:
    """Closing without lingering resets."""
    victim.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
