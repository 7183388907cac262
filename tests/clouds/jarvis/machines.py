"""The life of machines: started, paused, resumed under another id, destroyed, cut off."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path

from clouds.jarvis.account import Account, folder_of
from clouds.jarvis.boxes import Box, Setup
from clouds.jarvis.calls import Refusal, not_found
from clouds.jarvis.catalogue import Catalogue
from clouds.jarvis.clock import Agenda, Clock
from clouds.jarvis.disks import Disk, throw_away
from clouds.jarvis.image import UBUNTU, Isolation, Template, login
from clouds.jarvis.machine import Fate, Machine, Reach, Timings
from clouds.jarvis.meter import DISK_PER_GB_HOUR, Kind, Meter
from clouds.jarvis.ports import Ports

NOBODY_KNOWS = ("Gone",)
BOOTING = ("Creating", "Resuming")


@dataclass(frozen=True)
class Land:
    """What machines stand on."""

    root: Path
    isolation: Isolation
    timings: Timings
    templates: Mapping[str, Template]
    visible: Sequence[Path]

    def disk(self, name: str) -> Disk:
        return Disk(self.root / "machines" / name)

    @property
    def trash(self) -> Path:
        return self.root / "trash"

    def throw_away(self, path: Path) -> None:
        """Gone at once."""
        throw_away(path, self.trash)


@dataclass
class Machines:
    """All machines there ever were. Every method is called under the provider's lock."""

    land: Land
    clock: Clock
    agenda: Agenda
    account: Account
    catalogue: Catalogue
    meter: Meter
    rows: dict[int, Machine] = field(default_factory=dict)
    boxes: dict[int, Box] = field(default_factory=dict)
    fates: list[Fate] = field(default_factory=list)
    ports: Ports = field(default_factory=Ports)
    silent: bool = False
    last_id: int = 437620

    def get(self, number: int) -> Machine:
        """A machine the provider still knows."""
        found = self.rows.get(number)
        if found is None or found.status in NOBODY_KNOWS:
            raise not_found()
        return found

    def balance(self) -> Decimal:
        """What is left of the account's money."""
        self.meter.now = self.clock.now()
        return self.account.balance(self.meter)

    def cost(self, machine: Machine) -> Decimal:
        """What it has cost under this id."""
        self.meter.now = self.clock.now()
        return self.meter.cost(span for span in self.meter.spans if span.machine == machine.id)

    # ---- starting

    def start(self, wanted: Machine) -> Machine:
        """A new machine on a new disk; `wanted` says what, and lacks what is the provider's."""
        self._reserve(wanted)
        number = self._number()
        machine = replace(wanted, id=number, disk=f"m{number}", fate=self._fate(wanted.name))
        disk = self.land.disk(machine.disk)
        if machine.fate.home_mib is not None:
            disk.shrink(machine.fate.home_mib)
        self._admit(machine, "Creating")
        return machine

    def again(self, old: Machine, wanted: Machine) -> Machine:
        """A paused machine's disk under a new id; the old one is not known any more."""
        self._reserve(wanted)
        old.status, old.gone = "Gone", self.clock.now()
        self.meter.finish(old.id, self.clock.now(), "disk")
        machine = replace(wanted, id=self._number(), disk=old.disk, fate=self._fate(wanted.name))
        self._admit(machine, "Resuming")
        return machine

    def _reserve(self, wanted: Machine) -> None:
        if self.balance() <= 0:
            raise Refusal(403, "Insufficient balance. Please recharge your account.")
        if wanted.workload != "cpu" and not self.catalogue.take(
            wanted.gpu_type, wanted.region, wanted.num_gpus
        ):
            message = f"{wanted.gpu_type} is not available right now"
            raise Refusal(200, message, success=False)

    def _number(self) -> int:
        self.last_id += 1
        return self.last_id

    def _fate(self, name: str) -> Fate:
        for index, fate in enumerate(self.fates):
            if re.fullmatch(fate.name, name):
                if fate.times > 1:
                    self.fates[index] = replace(fate, times=fate.times - 1)
                else:
                    del self.fates[index]
                return fate
        return Fate()

    def _admit(self, machine: Machine, status: str) -> None:
        now = self.clock.now()
        machine.status, machine.created, machine.gone = status, now, None
        keys = [] if machine.fate.keyless else self.account.keys
        machine.keys = [key.ssh_key for key in keys]
        machine.port = self.ports.take()
        machine.user = login(self.land.isolation, vm=machine.vm)
        machine.listening, machine.reach, machine.holds = False, machine.fate.reach, True
        self.rows[machine.id] = machine
        self.meter.begin(machine.id, machine.name, "disk", DISK_PER_GB_HOUR * machine.hdd, now)
        usual = self.land.timings.boot
        boot = usual if machine.fate.boot is None else machine.fate.boot
        self.agenda.after(boot, lambda: self._boot(machine))

    def _boot(self, machine: Machine) -> None:
        if machine.status not in BOOTING:
            return
        if machine.fate.fail is not None:
            machine.status, machine.error = "Failed", machine.fate.fail
            self._let_go(machine, "gpu", "disk")
            return
        machine.status = "Running"
        rate = machine.rate(self.catalogue)
        self.meter.begin(machine.id, machine.name, "gpu", rate, self.clock.now())
        self.switch_on(machine)
        if machine.fate.taken:
            self.paused(machine)

    def switch_on(self, machine: Machine) -> None:
        """Its processes begin; its sshd listens a while later."""
        disk = self.land.disk(machine.disk)
        disk.make(UBUNTU if machine.user == "ubuntu" else None)
        shared = None if machine.fs_id is None else folder_of(self.land.root, machine.fs_id)
        template = self.land.templates.get(machine.template, Template())
        setup = Setup(
            disk, machine.id, machine.port, machine.vm, template, machine.keys, self.land.visible,
            shared,
        )  # fmt: skip
        box = self.boxes[machine.id] = Box(setup, self.land.isolation)
        if machine.script_id is not None and not machine.vm:
            script = self.account.script(machine.script_id)
            box.run(script.text, shlex.split(machine.script_args))
        self.agenda.after(self.land.timings.ssh_delay, lambda: self._listen(machine, box))

    def _listen(self, machine: Machine, box: Box) -> None:
        if self.boxes.get(machine.id) is box and machine.keys:
            machine.listening = True
            self.apply_reach(machine)

    # ---- reaching

    def apply_reach(self, machine: Machine) -> None:
        """Make its sshd answer as it should now."""
        box = self.boxes.get(machine.id)
        if box is None or not machine.listening:
            return
        reach: Reach = "refuse" if self.silent else machine.reach
        if reach in {"refuse", "deny"}:
            box.order("close")
        if reach != "refuse":
            box.admit([] if reach == "deny" else machine.keys)
            box.order("open")
            box.order("hang" if reach == "hang" else "thaw")

    def set_silent(self, *, silent: bool) -> None:
        """The way to every machine is broken, or mended."""
        self.silent = silent
        for machine in self.rows.values():
            self.apply_reach(machine)

    # ---- ending

    def pause(self, machine: Machine) -> None:
        """Accepted; done a little later."""
        if machine.status != "Running":
            message = f"Cannot pause an instance that is {machine.status}"
            raise Refusal(200, message, success=False)
        machine.status = "Pausing"
        self.agenda.after(self.land.timings.ending, lambda: self.paused(machine))

    def paused(self, machine: Machine) -> None:
        """Now it is: a container keeps its /home, a VM its disk; the GPU is others'."""
        if machine.status not in {"Running", "Pausing"}:
            return
        self._switch_off(machine)
        self._let_go(machine, "gpu")
        machine.status = "Paused"
        if not machine.vm:
            self.land.disk(machine.disk).wipe(self.land.trash)

    def destroy(self, machine: Machine) -> None:
        """Accepted; done a little later."""
        if machine.status != "Destroying":
            machine.status = "Destroying"
            self.agenda.after(self.land.timings.ending, lambda: self.destroyed(machine))

    def destroyed(self, machine: Machine) -> None:
        """Now it is."""
        if machine.status == "Gone":
            return
        self._switch_off(machine)
        self._let_go(machine, "gpu", "disk")
        machine.status, machine.gone = "Gone", self.clock.now()
        self.land.disk(machine.disk).remove(self.land.trash)

    def cut(self, machine: Machine, *, back: bool) -> None:
        """Its power fails. The provider notices nothing, and bills; with `back` it boots again."""
        self._switch_off(machine)
        if back:
            self.agenda.after(self.land.timings.boot, lambda: self._reboot(machine))

    def _reboot(self, machine: Machine) -> None:
        if machine.status == "Running" and machine.id not in self.boxes:
            self.switch_on(machine)

    def _switch_off(self, machine: Machine) -> None:
        box = self.boxes.pop(machine.id, None)
        machine.listening = False
        if box is not None:
            box.kill()

    def _let_go(self, machine: Machine, *kinds: Kind) -> None:
        self.meter.finish(machine.id, self.clock.now(), *kinds)
        if machine.holds:
            machine.holds = False
            self.ports.give(machine.port)
            if machine.workload != "cpu":
                self.catalogue.give(machine.gpu_type, machine.region, machine.num_gpus)

    def go_on(self, machine: Machine) -> None:
        """What was under way when the provider itself was interrupted."""
        ways = {
            "Creating": self._boot,
            "Resuming": self._boot,
            "Pausing": self.paused,
            "Destroying": self.destroyed,
        }
        if machine.holds:
            self.ports.again(machine.port)
        if machine.status == "Running":
            self.switch_on(machine)
        elif way := ways.get(machine.status):
            self.agenda.after(self.land.timings.ending, lambda: way(machine))

    def each(self, do: Callable[[Machine], None], *statuses: str) -> None:
        """Do it to every machine in one of these states."""
        for machine in list(self.rows.values()):
            if machine.status in statuses:
                do(machine)

    def close(self) -> None:
        """Switch everything off; what is on disk stays."""
        for machine in self.rows.values():
            self._switch_off(machine)
        self.ports.close()
