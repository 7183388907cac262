"""The cloud as a test holds it: opened, moved, looked at, closed."""

from __future__ import annotations

import contextlib
import json
import secrets
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from clouds.modal.faults import Do

_TESTS = Path(__file__).parents[2]


@dataclass
class Cloud:
    """A loopback Modal whose volumes lie in `folder`; see the package's docstring.

    speed         provider seconds in one of ours
    commit_every  provider seconds between two background commits
    image_env     variables of every image's containers, as if it had been built so
    """

    folder: Path
    speed: float = 1.0
    commit_every: float = 5.0
    image_env: Mapping[str, str] = field(default_factory=dict)
    gpu_env: Mapping[str, str] = field(default_factory=dict)
    token_id: str = field(default_factory=lambda: f"ak-{secrets.token_hex(11)}")
    token_secret: str = field(default_factory=lambda: f"as-{secrets.token_hex(11)}", repr=False)

    def __post_init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._said: dict[str, str] = {}
        self._admin = secrets.token_hex(16)

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "clouds.modal", str(self.folder)],
            cwd=_TESTS,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        told = {
            "token_id": self.token_id,
            "token_secret": self.token_secret,
            "speed": self.speed,
            "commit_every": self.commit_every,
            "image_env": dict(self.image_env),
            "gpu_env": dict(self.gpu_env),
            "admin": self._admin,
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(told).encode() + b"\n")
        self._process.stdin.flush()
        self._said = json.loads(self._process.stdout.readline())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process is not None
        trouble = [] if kind else self.state["trouble"]
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        assert trouble == [], trouble

    @property
    def environ(self) -> dict[str, str]:
        """What a process must have in its environment to use this cloud and no other."""
        return {
            "MODAL_SERVER_URL": self._said["url"],
            "MODAL_TOKEN_ID": self.token_id,
            "MODAL_TOKEN_SECRET": self.token_secret,
            "NO_PROXY": "127.0.0.1",
            "MODAL_CONFIG_PATH": str(self.folder / "no-such-file.toml"),
        }

    @property
    def door(self) -> str:
        """The address of the back door, for another process of a test."""
        return f"{self._said['http']}/{self._admin}"

    # ── looking ───────────────────────────────────────────────────────────────────────────────

    @property
    def state(self) -> dict[str, Any]:
        """Everything: see `provider.Admin.do_state`."""
        found: dict[str, Any] = self.admin("state")
        return found

    def volume(self, name: str) -> Path:
        """What is committed of a volume, as a folder."""
        return Path(self.state["volumes"][name])

    def billing(self) -> list[dict[str, Any]]:
        """What bills now."""
        return [span for span in self.state["spans"] if span["end"] is None]

    def billed_after(self, moment: float) -> float:
        """Seconds billed after a moment of this machine's monotonic clock."""
        now = time.monotonic()
        ends = [(span["start"], span["end"] or now) for span in self.state["spans"]]
        return float(sum(max(0.0, end - max(start, moment)) for start, end in ends))

    def call_of(self, app: str) -> dict[str, Any]:
        """The only call of an app."""
        (found,) = [call for call in self.state["calls"] if call["app"] == app]
        return dict(found)

    # ── hurting ───────────────────────────────────────────────────────────────────────────────

    def fail(self, name: str, do: Do, **more: Any) -> int:
        """Let RPCs go wrong whose name matches the regex; see `faults.Fault` for the rest."""
        return int(self.admin("fail", name=name, do=do, **more))

    def hits(self, number: int) -> int:
        """How often a fault has struck."""
        return int(self.admin("hits", number=number))

    def forgive(self) -> None:
        """No fault is in force any more."""
        self.admin("forgive")

    def preempt(self, call: str, *, grace: float = 30.0, rank: int = 0) -> None:
        """SIGINT, a grace, SIGKILL; returns when the container is gone."""
        self.admin("preempt", call=call, grace=grace / self.speed, rank=rank)

    def kill(self, call: str, *, rank: int = 0) -> None:
        """The worker dies without a word; the input begins again on another."""
        self.admin("kill", call=call, rank=rank)

    def lose(self, call: str, *, rank: int) -> None:
        """A container of a cluster is gone; the others are not told, and go on."""
        self.admin("lose", call=call, rank=rank)

    def set(self, **values: Any) -> None:
        """full, quota: kinds of GPUs; silent, expired; least_version; breaks; speed; …

        late: seconds by rank, for the containers of a cluster.
        """
        self.admin("set", **values)

    @contextlib.contextmanager
    def silence(self) -> Iterator[None]:
        """While entered nothing answers."""
        self.set(silent=True)
        try:
            yield
        finally:
            self.set(silent=False)

    def admin(self, verb: str, **arguments: Any) -> Any:
        """The back door."""
        request = urllib.request.Request(
            f"{self.door}/{verb}",
            data=json.dumps(arguments).encode(),
            headers={"content-type": "application/json"},
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=60) as reply:
            return json.loads(reply.read())
