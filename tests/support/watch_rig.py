"""The watchdog as a real process, a folder of jobs for it to watch, and somebody for it to call."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from backends.ssh import watchdog

PROGRAM = Path(__file__).parents[2] / "backends" / "ssh" / "watchdog.py"
SECRET = "canary-5a1f0c9d7e"
LONGEST_S = 60.0
"""Only ends a test that is broken; no test waits for it otherwise."""


class Provider:
    """A server of this machine that counts who asks it to pause; what it answers can be chosen."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, str | None, float]] = []
        self.answers: list[int | str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def _handler(provider) -> type[BaseHTTPRequestHandler]:  # noqa: N805
        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                key = self.headers.get("Authorization")
                provider.calls.append((self.command, self.path, key, time.monotonic()))
                what = provider.answers.pop(0) if provider.answers else 200
                if isinstance(what, str):  # elsewhere
                    self.send_response(302)
                    self.send_header("Location", what)
                else:
                    self.send_response(what)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_GET = do_POST = answer  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        return Handler

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@dataclass
class Watch:
    """One watchdog's folder."""

    python: str
    root: Path
    provider: Provider
    locks: list[int] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        return self.root / "watch"

    @property
    def jobs(self) -> Path:
        return self.root / "runs"

    def config(self, **changes: Any) -> dict[str, Any]:
        hook = {"method": "POST", "url": f"{self.provider.url}/pause?id=7", "timeout_s": 5}
        quick = {"poll_s": 0.02, "retry_s": 0.02, "retry_max_s": 0.2}
        return {"jobs_root": str(self.jobs), "idle_s": 0.3, "hook": hook, **quick, **changes}

    def command(self, command: str, stdin: bytes = b"") -> dict[str, Any]:
        done = subprocess.run(
            [self.python, "-I", str(PROGRAM), command, str(self.folder)],
            input=stdin,
            capture_output=True,
            timeout=LONGEST_S,
            check=False,
        )
        assert done.returncode == 0, done
        found = json.loads(done.stdout)
        assert isinstance(found, dict)
        return found

    def install(self, secret: str = SECRET, **changes: Any) -> dict[str, Any]:
        request = {
            "config": self.config(**changes),
            "secret": base64.b64encode(f"Authorization: Bearer {secret}\n".encode()).decode(),
            "program": PROGRAM.read_text(),
        }
        return self.command("install", json.dumps(request).encode() + b"\n")

    def state(self) -> dict[str, Any]:
        """What the command `status` says, without its process."""
        found = watchdog.status(str(self.folder))
        assert isinstance(found, dict)
        return found

    def pid(self) -> int:
        return int((self.folder / "lock").read_bytes())

    def touch(self) -> None:
        os.utime(self.folder / "seen")

    def job(self, name: str = "job") -> int:
        """Hold a run directory's lock, as its living runner does."""
        home = self.jobs / name
        home.mkdir(parents=True, exist_ok=True)
        lock = os.open(home / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
        fcntl.flock(lock, fcntl.LOCK_EX)
        self.locks.append(lock)
        return lock

    def job_ends(self, lock: int) -> None:
        self.locks.remove(lock)
        os.close(lock)

    def until(self, what: str, true: Callable[[], object]) -> None:
        end = time.monotonic() + LONGEST_S
        while not true():
            assert time.monotonic() < end, f"never came: {what}; {self.state()}"
            time.sleep(0.01)

    def close(self) -> None:
        for lock in self.locks:
            os.close(lock)
        with contextlib.suppress(FileNotFoundError, ValueError):
            pid = self.pid()
            self.command("remove")
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def watching(python: str, root: Path) -> Iterator[Watch]:
    """A watchdog's folder, whose watchdog is gone afterwards."""
    root.mkdir(parents=True, exist_ok=True)
    provider = Provider()
    made = Watch(python, root, provider)
    try:
        yield made
    finally:
        made.close()
        provider.close()
