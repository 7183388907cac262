"""The whole provider: put together from its settings, kept on disk, ended with its parent."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from clouds.jarvis.account import Account
from clouds.jarvis.admin import Admin
from clouds.jarvis.catalogue import Catalogue
from clouds.jarvis.clock import Agenda, Clock
from clouds.jarvis.image import Isolation, Template
from clouds.jarvis.machine import Machine, Timings
from clouds.jarvis.machines import Land, Machines
from clouds.jarvis.meter import Meter
from clouds.jarvis.server import Server, Service


@dataclass(frozen=True)
class Settings:
    """What a cloud is told when it is opened: the first line of its standard input, in JSON."""

    token: str
    admin_key: str
    speed: float
    timings: Timings
    isolation: Isolation
    visible: tuple[str, ...]
    templates: Mapping[str, Template]
    deposit: str

    def as_json(self) -> dict[str, Any]:
        """For that line."""
        templates = {
            name: {
                "path_first": [str(path) for path in template.path_first],
                "env": dict(template.env or {}),
                "python": template.python,
                "says": template.says,
            }
            for name, template in self.templates.items()
        }
        return vars(self) | {"timings": vars(self.timings), "templates": templates}

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Settings:
        """What `as_json` gave."""
        templates = {
            name: Template(**(one | {"path_first": [Path(p) for p in one["path_first"]]}))
            for name, one in row["templates"].items()
        }
        more = {"timings": Timings(**row["timings"]), "templates": templates}
        return cls(**{**row, "visible": tuple(row["visible"]), **more})


class Provider:
    """Opens the cloud that lies in a folder, or begins it there."""

    def __init__(self, root: Path, settings: Settings) -> None:
        self._state = root / "state.json"
        was = json.loads(self._state.read_text()) if self._state.exists() else None
        lock = threading.RLock()
        clock = Clock(settings.speed, was["opened"]) if was else Clock(settings.speed)
        self._agenda = Agenda(clock, lock, self._mind_the_money)
        visible = [Path(path) for path in settings.visible]
        land = Land(root, settings.isolation, settings.timings, settings.templates, visible)
        account = Account(settings.token, Decimal(settings.deposit))
        self.machines = Machines(land, clock, self._agenda, account, Catalogue(), Meter())
        if was:
            self._restore(was)
        self.service = Service(self.machines, lock, self.save, settings.admin_key)
        self.service.admin = Admin(self.service)
        self.server = Server(self.service)

    def _restore(self, was: dict[str, Any]) -> None:
        machines = self.machines
        machines.account = Account.from_json(was["account"], machines.account.token)
        machines.meter = Meter.from_json(was["spans"])
        machines.last_id = was["last_id"]
        machines.catalogue.currency = was["currency"]
        machines.catalogue.free = {(gpu, region): free for gpu, region, free in was["free"]}
        for row in was["machines"]:
            machine = Machine.from_json(row)
            machine.listening = False
            machines.rows[machine.id] = machine
            machines.go_on(machine)

    def save(self) -> None:
        """Write down everything a later server must know. Called under the lock."""
        machines = self.machines
        state = {
            "opened": machines.clock.opened,
            "account": machines.account.as_json(),
            "spans": machines.meter.as_json(),
            "last_id": machines.last_id,
            "currency": machines.catalogue.currency,
            "free": [[*key, free] for key, free in machines.catalogue.free.items()],
            "machines": [machine.as_json() for machine in machines.rows.values()],
        }
        new = self._state.with_suffix(".new")
        new.write_text(json.dumps(state))
        new.replace(self._state)

    def _mind_the_money(self) -> None:
        machines = self.machines
        if machines.balance() <= 0:
            machines.each(machines.paused, "Running")

    def run(self) -> None:
        """Serve until the standard input ends: then whoever opened the cloud has ended, too."""
        self._agenda.start()
        serving = threading.Thread(target=self.server.serve_forever, args=(0.1,), daemon=True)
        serving.start()
        said = {"port": self.server.port, "opened": self.machines.clock.opened}
        print(json.dumps(said), flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            while os.read(0, 4096):
                pass
        self.server.shutdown()
        self._agenda.stop()
        with self.service.lock:
            self.save()
            self.machines.close()


def begin() -> None:
    """`python -m clouds.jarvis FOLDER`, told by standard input."""
    told = b""
    while not told.endswith(b"\n"):
        more = os.read(0, 1 << 16)
        if not more:
            return
        told += more
    Provider(Path(sys.argv[1]), Settings.from_json(json.loads(told))).run()
