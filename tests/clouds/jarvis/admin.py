"""What a test may do to the cloud from behind: each verb with the arguments `Cloud` sends."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from clouds.jarvis.machine import Fate, Machine
from clouds.jarvis.server import Service, requests_as_json


class Admin:
    """The verbs. Each is called under the provider's lock."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._machines = service.machines

    def __call__(self, verb: str, arguments: dict[str, Any]) -> Any:
        method: Callable[..., Any] = getattr(self, f"do_{verb}")
        return method(**arguments)

    def _machine(self, machine: int) -> Machine:
        return self._machines.rows[machine]

    # ---- looking

    def do_machines(self) -> Any:
        return [machine.as_json() for machine in self._machines.rows.values()]

    def do_requests(self) -> Any:
        return requests_as_json(self._service)

    def do_meter(self) -> Any:
        return {"spans": self._machines.meter.as_json(), "now": self._machines.clock.now()}

    def do_account(self) -> Any:
        return self._machines.account.as_json() | {"balance": str(self._machines.balance())}

    def do_skip(self, seconds: float) -> float:
        self._machines.agenda.skip(seconds)
        return self._machines.clock.opened

    # ---- faults of calls

    def do_fail(self, method: str, path: str, do: Any, times: int | None, after: int) -> int:
        trick = (do[0], do[1]) if isinstance(do, list) else do
        return self._service.faults.add(method, path, trick, times, after)

    def do_forget(self, number: int | None = None) -> None:
        self._service.faults.forget(number)

    def do_hits(self, number: int) -> int:
        return self._service.faults.hits(number)

    def do_silence(self, silent: bool, machines: bool) -> None:
        self._service.silent = silent
        if machines:
            self._machines.set_silent(silent=silent)

    # ---- faults of machines

    def do_fate(self, **fate: Any) -> None:
        self._machines.fates.append(Fate(**fate))

    def do_no_fates(self) -> None:
        self._machines.fates.clear()

    def do_reach(self, machine: int, how: Any) -> None:
        found = self._machine(machine)
        found.reach = how
        self._machines.apply_reach(found)

    def do_cut(self, machine: int, back: bool) -> None:
        self._machines.cut(self._machine(machine), back=back)

    def do_fill(self, machine: int, leave: int) -> None:
        self._machines.land.disk(self._machine(machine).disk).fill(leave)

    def do_reclaim(self, machine: int) -> None:
        found = self._machine(machine)
        if not found.is_spot:
            raise ValueError("only a spot machine can be reclaimed")
        self._machines.paused(found)

    def do_dashboard(self, machine: int, what: str) -> None:
        found = self._machine(machine)
        if what == "pause":
            self._machines.pause(found)
        else:
            self._machines.destroy(found)

    # ---- the account and the market

    def do_capacity(self, gpu: str, region: str, free: int) -> None:
        self._machines.catalogue.free[gpu, region] = free

    def do_balance(self, dollars: str) -> None:
        self._machines.account.deposit += Decimal(dollars) - self._machines.balance()

    def do_currency(self, name: str) -> None:
        self._machines.catalogue.currency = name
