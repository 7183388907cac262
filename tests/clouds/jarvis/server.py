"""The HTTP side: three regions, the account's key, what goes wrong on demand, and a back door.

The back door, `/admin`, is how a test moves the cloud; it has a key of its own and no faults.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from clouds.jarvis.calls import Call, Refusal
from clouds.jarvis.catalogue import CHENNAI, EUROPE, NOIDA
from clouds.jarvis.faults import Do, Faults, with_nulls
from clouds.jarvis.machines import Machines
from clouds.jarvis.routes import answer

HOSTS = {"n": NOIDA, "c": CHENNAI, "eu": EUROPE}
NONSENSE = b"<html><body>We will be back soon</body></html>"
HUNG_UP = 0


@dataclass(frozen=True)
class Request:
    """One call as it was seen: `status` 0 means that nobody was answered.

    at     provider seconds
    query  with its `?`, or empty
    """

    method: str
    path: str
    query: str
    region: str
    body: dict[str, Any]
    status: int
    at: float


@dataclass
class Service:
    """What stands behind the HTTP server."""

    machines: Machines
    lock: threading.RLock
    save: Callable[[], None]
    admin_key: str
    admin: Callable[[str, dict[str, Any]], Any] | None = None
    faults: Faults = field(default_factory=Faults)
    silent: bool = False
    requests: list[Request] = field(default_factory=list)


@dataclass(frozen=True)
class Reply:
    """Bytes for a status; None: hang up."""

    status: int
    body: bytes | None


def reply(service: Service, call: Call, token: str) -> Reply:
    """What a client is sent for a call, faults included."""
    with service.lock:
        do = service.faults.strike(call.method, call.path + _query(call))
        if service.silent or do == "drop":
            return Reply(HUNG_UP, None)
    if isinstance(do, tuple) and do[0] == "delay":
        time.sleep(do[1])
        do = None
    if isinstance(do, int):
        return _json(do, {"message": f"the service answers {do} today"})
    if do == "no":
        return _json(200, {"success": False, "message": "the service cannot do this today"})
    if do == "nonsense":
        return Reply(200, NONSENSE)
    return _twisted(do, *_served(service, call, token))


def _served(service: Service, call: Call, token: str) -> tuple[int, Any]:
    if not token:
        return 403, {"message": "Not authenticated"}
    with service.lock:
        if token != service.machines.account.token:
            return 401, {"message": "Invalid token"}
        try:
            given = answer(service.machines, call)
        except Refusal as refusal:
            return refusal.status, refusal.body
        finally:
            if call.method != "GET":
                service.save()
    return 200, given


def _twisted(do: Do | None, status: int, given: Any) -> Reply:
    if do == "drop-after":
        return Reply(HUNG_UP, None)
    if do == "nonsense-after":
        return Reply(200, NONSENSE)
    if do == "nulls":
        return _json(status, with_nulls(given))
    if isinstance(do, tuple):
        return _json(int(do[1]), {"message": f"the service answers {do[1]} today"})
    return _json(status, given)


def _json(status: int, given: Any) -> Reply:
    return Reply(status, json.dumps(given).encode())


def _query(call: Call) -> str:
    return "?" + "&".join(f"{k}={v}" for k, v in call.query.items()) if call.query else ""


class Handler(BaseHTTPRequestHandler):
    """One connection; a client may send several requests over it."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def log_message(self, *_: object) -> None:
        """Nothing: requests are kept for the test instead."""

    def handle(self) -> None:
        """A client that hangs up is nothing to talk about."""
        with contextlib.suppress(ConnectionError):
            super().handle()

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        raw = self.rfile.read(length) if length else b""
        service = self.server.service
        if self.path == "/admin":
            self._send(self._admin(service, raw))
            return
        parts = urlsplit(self.path)
        host, _, path = parts.path.lstrip("/").partition("/")
        kind = self.headers.get("Content-Type") or ""
        call = Call(
            method=self.command,
            region=HOSTS.get(host, ""),
            path=path,
            query={name: values[0] for name, values in parse_qs(parts.query).items()},
            kind=kind,
            raw=raw,
            body=json.loads(raw) if raw and "json" in kind else {},
        )
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ").strip()
        given = reply(service, call, token)
        with service.lock:
            service.requests.append(
                Request(call.method, path, _query(call), call.region, call.body, given.status,
                        service.machines.clock.now())
            )  # fmt: skip
        self._send(given)

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = _serve  # noqa: N815

    def _admin(self, service: Service, raw: bytes) -> Reply:
        wish = json.loads(raw)
        if wish.pop("key") != service.admin_key:
            return _json(401, {"error": "not for you"})
        try:
            assert service.admin is not None
            with service.lock:
                given = service.admin(wish.pop("verb"), wish)
                service.save()
        except Exception as error:  # noqa: BLE001 - the test that asked shall hear of it
            return _json(400, {"error": f"{type(error).__name__}: {error}"})
        return _json(200, {"given": given})

    def _send(self, given: Reply) -> None:
        if given.body is None:
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)
            return
        head = (
            f"HTTP/1.1 {given.status} {self.responses.get(given.status, ('Odd',))[0]}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(given.body)}\r\n\r\n"
        )
        # In one piece: two would cost a client 40 ms a call.
        self.wfile.write(head.encode() + given.body)


class Server(ThreadingHTTPServer):
    """On a free port of the loopback interface."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, service: Service) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.service = service

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.server_address[1])


def requests_as_json(service: Service) -> list[dict[str, Any]]:
    """Every request so far."""
    return [asdict(request) for request in service.requests]
