"""The HTTP side of both loopbacks, and its moods."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

MOMENT_S = 0.3
NONSENSE = b"<html><body>Sign in to the network of this hotel</body></html>"


@dataclass(frozen=True)
class Reply:
    """An answer."""

    status: int
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Seen:
    """A request as it came in; `authorization` is the whole header, or empty."""

    method: str
    path: str
    authorization: str
    body: bytes


class Service:
    """One service on 127.0.0.1. What it answers is `answer`, of the class beneath."""

    def __init__(self) -> None:
        self.mood: int | str | None = None
        self.requests: list[Seen] = []
        self._over = threading.Event()
        self._server = _Server(self)

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def host(self) -> str:
        """How ftlaunch calls it."""
        return self.url.removeprefix("http://")

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._server.shutdown()
        self._server.server_close()

    def answer(self, seen: Seen) -> Reply:
        """What the service says."""
        raise NotImplementedError

    def moody(self, seen: Seen) -> Reply | bytes | None:
        """The answer as the mood has it; None for none."""
        self.requests.append(seen)
        if self.mood == "hang":
            self._over.wait()
            return None
        if self.mood == "slow":
            self._over.wait(MOMENT_S)
        if self.mood == "nonsense":
            return NONSENSE
        if isinstance(self.mood, int):
            return Reply(self.mood, {"error": "not now"})
        return self.answer(seen)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, service: Service) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.service = service

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Somebody who was asked to wait too long has hung up."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing: `requests` tells."""

    def do_GET(self) -> None:
        self._do()

    def do_POST(self) -> None:
        self._do()

    def _do(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        asked = self.headers.get("Authorization") or ""
        reply = self.server.service.moody(Seen(self.command, self.path, asked, body))
        if reply is None:
            self.close_connection = True
            return
        if isinstance(reply, bytes):
            status, headers, text = 200, {"Content-Type": "text/html"}, reply
        else:
            status = reply.status
            headers = {"Content-Type": "application/json", **reply.headers}
            text = json.dumps(reply.body).encode()
        with contextlib.suppress(OSError):
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)
