"""The provider's process, seen from the one that started it."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from clouds.jarvis.provider import Settings

TESTS = Path(__file__).resolve().parents[2]


@dataclass
class Engine:
    """A provider that runs: it ends when its standard input does, so with this process at latest.

    opened   when it was first opened, on the monotonic clock
    """

    port: int
    opened: float
    _process: subprocess.Popen[bytes]
    _log: Path
    _key: str

    @classmethod
    def start(cls, folder: Path, settings: Settings) -> Self:
        """Start it on what lies in a folder; returns when it serves."""
        log = folder / "server.log"
        # In a mount namespace of its own: what is mounted for a machine goes with the provider.
        walls = ["unshare", "--mount"] if settings.isolation == "namespace" else []
        with log.open("ab") as file:
            process = subprocess.Popen(
                [*walls, sys.executable, "-m", "clouds.jarvis", str(folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                env={"PATH": os.environ["PATH"], "PYTHONPATH": str(TESTS)},
                cwd=folder,
                start_new_session=True,
            )
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(settings.as_json()).encode() + b"\n")
        process.stdin.flush()
        line = process.stdout.readline()
        if not line:
            process.communicate()
            raise RuntimeError(f"the cloud did not start: {log.read_text()}")
        said = json.loads(line)
        return cls(said["port"], said["opened"], process, log, settings.admin_key)

    def close(self) -> None:
        """End it, and raise what went wrong inside."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
        if trouble := self._log.read_text():
            raise AssertionError(f"the loopback cloud failed: {trouble}")

    def kill(self) -> None:
        """End it without a word."""
        self._process.kill()

    @property
    def door(self) -> tuple[int, str]:
        """Port and key of the back door."""
        return self.port, self._key

    def admin(self, verb: str, arguments: dict[str, Any]) -> Any:
        """The back door: see `admin.Admin`."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            body = json.dumps({"key": self._key, "verb": verb, **arguments})
            connection.request("POST", "/admin", body, {"Content-Type": "application/json"})
            said = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        if "error" in said:
            raise RuntimeError(said["error"])
        return said["given"]
