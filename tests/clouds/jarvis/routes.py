"""The REST interface: what each call of the service does, and what it answers."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from clouds.jarvis import orders
from clouds.jarvis.account import filesystem_rate, folder_of
from clouds.jarvis.calls import Call, Refusal, not_found, part_of_form
from clouds.jarvis.catalogue import TEMPLATES
from clouds.jarvis.machine import Machine
from clouds.jarvis.machines import Machines

Answer = Any
Route = Callable[[Machines, Call], Answer]
ROUTES: list[tuple[str, re.Pattern[str], Route]] = []


def route(method: str, path: str) -> Callable[[Route], Route]:
    """Registers what answers a method and a path; a trailing slash makes no difference."""

    def note(function: Route) -> Route:
        ROUTES.append((method, re.compile(path), function))
        return function

    return note


def answer(machines: Machines, call: Call) -> Answer:
    """What the service says. Raises Refusal."""
    for method, path, function in ROUTES:
        if method == call.method and path.fullmatch(call.path.strip("/")):
            return function(machines, call)
    raise not_found()


# ---- machines


def _listed(machines: Machines, machine: Machine) -> bool:
    late = machine.created + machines.land.timings.listed
    return machine.gone is None and machines.clock.now() >= late


def _row(machines: Machines, machine: Machine) -> dict[str, Any]:
    return machine.row(machines.catalogue, machines.cost(machine), machines.clock.now())


@route("GET", r"users/fetch")
def _list(machines: Machines, _: Call) -> Answer:
    shown = [machine for machine in machines.rows.values() if _listed(machines, machine)]
    return {"success": True, "instances": [_row(machines, machine) for machine in shown]}


@route("GET", r"users/fetch/\d+")
def _fetch(machines: Machines, call: Call) -> Answer:
    machine = machines.rows.get(int(call.path.strip("/").rpartition("/")[2]))
    if machine is None or not _listed(machines, machine):
        return {"success": False, "instance": None}
    return {"success": True, "instance": _row(machines, machine)}


@route("GET", r"misc/status")
def _status(machines: Machines, call: Call) -> Answer:
    machine = machines.get(call.number("machine_id"))
    known = machine.created + machines.land.timings.known
    if machine.region != call.region or machines.clock.now() < known:
        raise not_found()
    code = "500" if machine.error else "None"
    return {"status": machine.status, "error": machine.error or "None", "code": code}


@route("POST", r"templates/[\w-]+(/cpu)?/create")
def _create(machines: Machines, call: Call) -> Answer:
    return {"machine_id": machines.start(orders.new(machines, call)).id}


@route("POST", r"templates/[\w-]+(/cpu)?/resume")
def _resume(machines: Machines, call: Call) -> Answer:
    old, wanted = orders.resumed(machines, call)
    return {"machine_id": machines.again(old, wanted).id}


def _named(machines: Machines, call: Call) -> Machine:
    machine = machines.get(call.number("machine_id"))
    ways = {"container": "misc", "vm": "templates/vm", "cpu": "templates/vm/cpu"}
    way = call.path.strip("/").rpartition("/")[0]
    if machine.region != call.region or way != ways[machine.workload]:
        raise not_found()
    return machine


@route("POST", r"(misc|templates/vm|templates/vm/cpu)/pause")
def _pause(machines: Machines, call: Call) -> Answer:
    machines.pause(_named(machines, call))
    return {"success": "True"}


@route("POST", r"(misc|templates/vm|templates/vm/cpu)/destroy")
def _destroy(machines: Machines, call: Call) -> Answer:
    machines.destroy(_named(machines, call))
    return {"success": True}


@route("PUT", r"machines/machine_name")
def _rename(machines: Machines, call: Call) -> Answer:
    machine = machines.get(call.number("machine_id"))
    machine.name = orders.checked_name(call.query.get("machine_name", ""))
    return {"success": True}


# ---- what there is


@route("GET", r"misc/server_meta")
def _meta(machines: Machines, _: Call) -> Answer:
    return machines.catalogue.meta()


@route("GET", r"misc/frameworks")
def _frameworks(_machines: Machines, _: Call) -> Answer:
    return {"frameworks": [{"id": one, "title": one.title(), "category": ""} for one in TEMPLATES]}


@route("GET", r"misc")
def _rupees(machines: Machines, _: Call) -> Answer:
    return {"success": machines.catalogue.currency == "INR"}


@route("GET", r"misc/resource_metrics")
def _metrics(machines: Machines, _: Call) -> Answer:
    there = [(machine.status, machine.vm) for machine in machines.rows.values()]
    return {
        "running_instances": there.count(("Running", False)),
        "paused_instances": there.count(("Paused", False)),
        "running_vms": there.count(("Running", True)),
        "paused_vms": there.count(("Paused", True)),
        "deployments": 0,
        "filesystems": len(machines.account.filesystems),
    }


@route("GET", r"users/balance")
def _balance(machines: Machines, _: Call) -> Answer:
    return {"balance": machines.catalogue.money(machines.balance()), "grants": 0.0}


@route("GET", r"users/user_info")
def _user(_machines: Machines, _: Call) -> Answer:
    return {"user_id": "someone@example.com", "name": "Someone"}


# ---- the account's things


@route("GET", r"ssh")
def _keys(machines: Machines, _: Call) -> Answer:
    return [asdict(key) for key in machines.account.keys]


@route("POST", r"ssh")
def _add_key(machines: Machines, call: Call) -> Answer:
    machines.account.add_key(str(call.body.get("key_name")), str(call.body.get("ssh_key")))
    return {"success": True}


@route("DELETE", r"ssh/.+")
def _remove_key(machines: Machines, call: Call) -> Answer:
    machines.account.remove_key(call.path.strip("/").partition("/")[2])
    return {"success": True}


@route("GET", r"scripts")
def _scripts(machines: Machines, _: Call) -> Answer:
    rows = [{"script_id": one.script_id, "script_name": one.script_name} for one in
            machines.account.scripts]  # fmt: skip
    return {"success": True, "script_meta": rows}


@route("POST", r"scripts/add")
def _add_script(machines: Machines, call: Call) -> Answer:
    machines.account.add_script(call.query.get("name"), part_of_form(call.raw, call.kind))
    return {"success": True}


@route("POST", r"scripts/update")
def _update_script(machines: Machines, call: Call) -> Answer:
    script = machines.account.script(call.number("script_id"))
    script.text = part_of_form(call.raw, call.kind)
    return {"success": True}


@route("DELETE", r"scripts")
def _remove_script(machines: Machines, call: Call) -> Answer:
    machines.account.scripts.remove(machines.account.script(call.number("script_id")))
    return {"success": True}


@route("GET", r"vpc/list")
def _vpcs(_machines: Machines, _: Call) -> Answer:
    return []


@route("GET", r"filesystem/list")
def _filesystems(machines: Machines, _: Call) -> Answer:
    return [asdict(one) for one in machines.account.filesystems]


@route("POST", r"filesystem/create")
def _make_filesystem(machines: Machines, call: Call) -> Answer:
    storage, name = int(call.body.get("storage") or 0), str(call.body.get("fs_name"))
    if call.body.get("region") != call.region:
        raise Refusal(400, "Invalid region")
    made = machines.account.make_filesystem(name, storage, call.region)
    folder = folder_of(machines.land.root, made.fs_id)
    folder.mkdir(parents=True)
    folder.chmod(0o1777)  # a container's root and a VM's user write there
    rate = filesystem_rate(storage)
    machines.meter.begin(made.fs_id, name, "filesystem", rate, machines.clock.now())
    return {"fs_id": made.fs_id}


@route("POST", r"filesystem/edit")
def _edit_filesystem(machines: Machines, call: Call) -> Answer:
    one = machines.account.filesystem(int(call.body.get("fs_id") or 0))
    storage = int(call.body.get("storage") or 0)
    if storage < one.storage:
        raise Refusal(400, "Storage can only be increased")
    one.storage = storage
    now = machines.clock.now()
    machines.meter.finish(one.fs_id, now, "filesystem")
    rate = filesystem_rate(storage)
    machines.meter.begin(one.fs_id, one.fs_name, "filesystem", rate, now)
    return {"fs_id": one.fs_id}


@route("POST", r"filesystem/delete")
def _delete_filesystem(machines: Machines, call: Call) -> Answer:
    one = machines.account.filesystem(call.number("fs_id"))
    if one.region != call.region:
        raise not_found()
    users = [m.id for m in machines.rows.values() if m.fs_id == one.fs_id and m.gone is None]
    if users:
        raise Refusal(200, f"Filesystem is attached to {users}", success=False)
    machines.account.filesystems.remove(one)
    machines.meter.finish(one.fs_id, machines.clock.now(), "filesystem")
    machines.land.throw_away(folder_of(machines.land.root, one.fs_id))
    return {"success": True}
