"""The cloud as a test holds it: opened, moved, looked at, closed."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from clouds.jarvis.boxes import best_isolation
from clouds.jarvis.catalogue import NOIDA
from clouds.jarvis.clock import Clock
from clouds.jarvis.engine import Engine
from clouds.jarvis.faults import Do
from clouds.jarvis.image import Isolation, Template
from clouds.jarvis.machine import Machine, Reach, Timings
from clouds.jarvis.meter import Meter
from clouds.jarvis.provider import Settings
from clouds.jarvis.server import HOSTS, Request
from clouds.jarvis.site import jarvis_loopback

SITE = Path(__file__).with_name("site")


@dataclass(frozen=True)
class Fault:
    """A fault in force, until it has struck as often as it should or is taken back."""

    _cloud: Cloud
    _number: int

    @property
    def hits(self) -> int:
        """How often it has struck."""
        return int(self._cloud.admin("hits", number=self._number))

    def forget(self) -> None:
        """Take it back."""
        self._cloud.admin("forget", number=self._number)


@dataclass
class Cloud:
    """A loopback Jarvis Labs whose state lies in `folder`; see the package's docstring."""

    folder: Path
    speed: float = 20.0
    timings: Timings = field(default_factory=Timings)
    isolation: Isolation = field(default_factory=best_isolation)
    visible: Sequence[Path] = ()
    templates: Mapping[str, Template] = field(default_factory=dict)
    balance: Decimal = Decimal(100)
    key: str = field(default_factory=lambda: f"jl_{secrets.token_hex(16)}", repr=False)

    def __post_init__(self) -> None:
        self.folder = self.folder.resolve()
        self._engine: Engine | None = None
        self._clock = Clock(self.speed)

    # ---- opening and closing

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def open(self) -> None:
        """Start the provider, with whatever it left in its folder the last time."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o711)
        settings = Settings(
            token=self.key,
            admin_key=secrets.token_hex(16),
            speed=self.speed,
            timings=self.timings,
            isolation=self.isolation,
            visible=tuple(str(path) for path in self.visible),
            templates=self.templates,
            deposit=str(self.balance),
        )
        self._engine = Engine.start(self.folder, settings)
        self._clock = Clock(self.speed, self._engine.opened)

    def close(self) -> None:
        """End the provider and every machine; whatever went wrong inside is raised here."""
        if self._engine is not None:
            engine, self._engine = self._engine, None
            engine.close()

    def kill(self) -> None:
        """End the provider as a crash would; `open` goes on with what is on disk."""
        assert self._engine is not None
        self._engine.kill()
        self.close()

    # ---- being used

    @property
    def regions(self) -> dict[str, str]:
        """The URL of each region."""
        base = f"http://127.0.0.1:{0 if self._engine is None else self._engine.port}"
        return {region: f"{base}/{host}/" for host, region in HOSTS.items()}

    @property
    def _said(self) -> dict[str, Any]:
        return {"regions": self.regions, "speed": self.speed}

    @property
    def environ(self) -> dict[str, str]:
        """What a process must have in its environment to use this cloud and no other."""
        path = [str(SITE), *filter(None, [os.environ.get("PYTHONPATH")])]
        return {
            "JL_API_KEY": self.key,
            "PYTHONPATH": os.pathsep.join(path),
            jarvis_loopback.VARIABLE: json.dumps(self._said),
            "JL_NO_UPDATE_CHECK": "1",
        }

    @contextlib.contextmanager
    def patch(self) -> Iterator[None]:
        """While entered, the SDK in this process uses this cloud. The key must still be given."""
        hook = jarvis_loopback.Hook(self._said)
        names = [name for name in sys.modules if name.partition(".")[0] == jarvis_loopback.SDK]
        undo = [jarvis_loopback.change(sys.modules[name], self._said) for name in names]
        sys.meta_path.insert(0, hook)
        try:
            yield
        finally:
            sys.meta_path.remove(hook)
            new = {name for name in sys.modules if name.partition(".")[0] == jarvis_loopback.SDK}
            for name in new - set(names):
                del sys.modules[name]  # they were imported changed
            for back in undo:
                back()

    @property
    def door(self) -> tuple[int, str]:
        """Port and key of the back door, for another process of a test."""
        if self._engine is None:
            raise RuntimeError("the cloud is closed")
        return self._engine.door

    # ---- looking

    def at(self, moment: float) -> float:
        """The provider's time at a moment of this machine's monotonic clock."""
        return (moment - self._clock.opened) * self.speed

    def now(self) -> float:
        """Provider seconds since it was first opened; `speed` of them are one second."""
        return self._clock.now()

    def skip(self, seconds: float) -> None:
        """Let so many provider seconds be over at once; they are billed."""
        self._clock.opened = self.admin("skip", seconds=seconds)

    @property
    def machines(self) -> list[Machine]:
        """Every machine there ever was; `gone` tells those that are no more."""
        return [Machine.from_json(row) for row in self.admin("machines")]

    def machine(self, which: int | str) -> Machine:
        """The newest of this id or name."""
        return [m for m in self.machines if which in {m.id, m.name}][-1]

    @property
    def requests(self) -> list[Request]:
        """Every call so far, the unanswered ones as well."""
        return [Request(**row) for row in self.admin("requests")]

    @property
    def meter(self) -> Meter:
        """What has been billed until now."""
        said = self.admin("meter")
        return Meter.from_json(said["spans"], said["now"])

    @property
    def account(self) -> dict[str, Any]:
        """Keys, scripts, filesystems, and the balance in dollars."""
        said: dict[str, Any] = self.admin("account")
        return said

    def files(self, machine: Machine) -> Path:
        """Where the folders of a machine's disk are on this one; not that of a small /home."""
        return self.folder / "machines" / machine.disk

    # ---- making calls fail

    def fail(
        self, method: str, path: str, do: Do, *, times: int | None = 1, after: int = 0
    ) -> Fault:
        """Let calls go wrong whose method (or `*`) and path (a regex) match.

        The path has no host, and the query: `misc/destroy\\?machine_id=437621`. The first `after`
        calls are spared, then `times` go wrong (None: all). What `do` may be: `faults.Do`.
        """
        number = self.admin("fail", method=method, path=path, do=do, times=times, after=after)
        return Fault(self, number)

    def forgive(self) -> None:
        """No fault is in force any more."""
        self.admin("forget")

    @contextlib.contextmanager
    def silence(self, *, machines: bool = True) -> Iterator[None]:
        """While entered nothing answers: not the service and, with `machines`, no sshd either.

        Connections to machines break. What runs there goes on.
        """
        self.admin("silence", silent=True, machines=machines)
        try:
            yield
        finally:
            self.admin("silence", silent=False, machines=machines)

    # ---- hurting machines

    def fate(
        self,
        name: str = ".*",
        *,
        times: int = 1,
        reach: Reach = "open",
        fail: str | None = None,
        boot: float | None = None,
        home_mib: int | None = None,
        keyless: bool = False,
        taken: bool = False,
    ) -> None:
        """What will happen to the next machines whose name matches: see `machine.Fate`."""
        if home_mib is not None and self.isolation != "namespace":
            raise ValueError("a small /home needs the isolation of namespaces, as root")
        self.admin(
            "fate",
            name=name,
            times=times,
            reach=reach,
            fail=fail,
            boot=boot,
            home_mib=home_mib,
            keyless=keyless,
            taken=taken,
        )

    def reach(self, machine: int, how: Reach) -> None:
        """How a machine's sshd answers from now on: see `machine.Reach`."""
        self.admin("reach", machine=machine, how=how)

    def unreachable(self, machine: int) -> None:
        """Its sshd refuses every connection; what runs there goes on."""
        self.reach(machine, "refuse")

    def cut(self, machine: int, *, back: bool = True) -> None:
        """A power cut: every process of it dies. It is Running all the while, and bills.

        With `back` it boots again by itself, with what was on its disk.
        """
        self.admin("cut", machine=machine, back=back)

    def fill(self, machine: int, *, leave: int = 0) -> None:
        """Fill its /home until so many bytes are left; it must be small by its `fate`."""
        self.admin("fill", machine=machine, leave=leave)

    def reclaim(self, machine: int) -> None:
        """Take a spot machine back: it is Paused, at once and without a word."""
        self.admin("reclaim", machine=machine)

    def dashboard_pause(self, machine: int) -> None:
        """Somebody clicks."""
        self.admin("dashboard", machine=machine, what="pause")

    def dashboard_destroy(self, machine: int) -> None:
        """Somebody clicks."""
        self.admin("dashboard", machine=machine, what="destroy")

    # ---- the market and the money

    def capacity(self, gpu: str, region: str = NOIDA, free: int = 0) -> None:
        """How many of a GPU are free in a region from now on."""
        self.admin("capacity", gpu=gpu, region=region, free=free)

    def run_dry(self) -> None:
        """The balance is used up: running machines are paused, and none is started."""
        self.set_balance(Decimal(0))

    def set_balance(self, dollars: Decimal) -> None:
        """So much is left now."""
        self.admin("balance", dollars=str(dollars))

    def currency(self, name: Literal["USD", "INR"]) -> None:
        """What the account pays in."""
        self.admin("currency", name=name)

    def admin(self, verb: str, **arguments: Any) -> Any:
        """The back door: see `admin.Admin`."""
        if self._engine is None:
            raise RuntimeError("the cloud is closed")
        return self._engine.admin(verb, arguments)
