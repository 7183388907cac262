"""What is asked for in a create or a resume: read, checked against the rules, filled in."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from clouds.jarvis.calls import Call, Refusal, not_found
from clouds.jarvis.catalogue import EUROPE, NOIDA, TEMPLATES, Gpu, cpu_price
from clouds.jarvis.machine import Machine, Workload
from clouds.jarvis.machines import Machines

LEAST_VM_DISK_GB = 100


def checked_name(name: str) -> str:
    """A name the service takes."""
    if not re.fullmatch(r"[A-Za-z0-9 _-]{1,40}", name):
        raise Refusal(400, "Invalid instance name")
    return name


def new(machines: Machines, call: Call) -> Machine:
    """The machine a create asks for."""
    template, workload = _template(call)
    body = call.body
    if body.get("region") != call.region:
        raise Refusal(400, f"{body.get('region')} is not served here")
    wanted = Machine(
        id=0,
        name=checked_name(str(body.get("name"))),
        template=template,
        region=call.region,
        workload=workload,
        gpu_type=str(body.get("gpu_type")) if workload != "cpu" else "CPU",
        num_gpus=int(body.get("num_gpus") or 0) if workload != "cpu" else 0,
        hdd=int(body.get("hdd") or 0),
        is_spot=bool(body.get("is_spot")),
        disk="",
        port=0,
        created=0.0,
        user="",
        keys=[],
        vcpus=int(body.get("vcpus") or 0),
        ram=int(body.get("ram_gb") or 0),
        **_extras(body),
    )
    return _held_to_the_rules(machines, wanted)


def resumed(machines: Machines, call: Call) -> tuple[Machine, Machine]:
    """The paused machine a resume names, and what shall become of it."""
    old = machines.get(int(call.body.get("machine_id") or 0))
    template, workload = _template(call)
    if old.region != call.region or (template, workload) != (old.template, old.workload):
        raise not_found()
    if old.status != "Paused":
        raise Refusal(400, f"Instance is {old.status}, not Paused")
    body = call.body
    size = int(body.get("hdd") or old.hdd)
    if size < old.hdd:
        raise Refusal(400, "Storage can only be increased")
    extras = _extras(body)
    if workload != "container" and extras["fs_id"] is None:
        extras["fs_id"] = old.fs_id
    wanted = replace(
        old,
        name=checked_name(str(body.get("name") or old.name)),
        gpu_type=str(body.get("gpu_type") or old.gpu_type),
        num_gpus=int(body.get("num_gpus") or old.num_gpus),
        hdd=size,
        # Whoever does not ask for spot again pays the full price.
        is_spot=bool(body.get("is_spot")),
        vcpus=int(body.get("vcpus") or old.vcpus),
        ram=int(body.get("ram_gb") or old.ram),
        error=None,
        **extras,
    )
    return old, _held_to_the_rules(machines, wanted)


def _template(call: Call) -> tuple[str, Workload]:
    words = call.path.strip("/").split("/")
    if words[1] not in TEMPLATES:
        raise not_found()
    if words[2] == "cpu":
        return "vm", "cpu"
    return words[1], "vm" if words[1] == "vm" else "container"


def _extras(body: dict[str, Any]) -> dict[str, Any]:
    script, filesystem = body.get("script_id"), body.get("fs_id")
    return {
        "fs_id": int(filesystem) if filesystem else None,
        "http_ports": str(body.get("http_ports") or ""),
        "script_id": int(script) if script else None,
        "script_args": str(body.get("script_args") or ""),
    }


def _held_to_the_rules(machines: Machines, wanted: Machine) -> Machine:
    if wanted.hdd <= 0:
        raise Refusal(422, "", detail=[{"loc": ["body", "hdd"], "msg": "field required"}])
    if wanted.vm:
        if not machines.account.keys:
            raise Refusal(400, "Please add an SSH key before you create a VM")
        if wanted.hdd < LEAST_VM_DISK_GB:
            message = f"Disk size must be at least {LEAST_VM_DISK_GB} GB for VM instances."
            raise Refusal(400, message)
        if wanted.is_spot:
            raise Refusal(400, "Spot is for containers only")
    if wanted.fs_id is not None:
        filesystem = machines.account.filesystem(wanted.fs_id)
        if filesystem.region != wanted.region or wanted.workload == "cpu":
            raise Refusal(400, f"Filesystem {wanted.fs_id} cannot be attached here")
    if wanted.script_id is not None:
        machines.account.script(wanted.script_id)
    if wanted.workload == "cpu":
        if wanted.region != NOIDA or cpu_price(wanted.vcpus, wanted.ram) is None:
            raise Refusal(400, "Invalid CPU plan")
        return wanted
    return _with_its_share(machines, wanted)


def _with_its_share(machines: Machines, wanted: Machine) -> Machine:
    gpu: Gpu | None = machines.catalogue.gpu(wanted.gpu_type, wanted.region)
    if gpu is None:
        raise Refusal(400, f"No pricing for {wanted.gpu_type} in {wanted.region}")
    most = 1 if wanted.region == EUROPE else 8
    if not 1 <= wanted.num_gpus <= most:
        raise Refusal(400, f"Between 1 and {most} GPUs can be rented here")
    if wanted.is_spot and gpu.spot is None:
        raise Refusal(400, f"{wanted.gpu_type} has no spot price here")
    count = wanted.num_gpus
    return replace(wanted, vcpus=gpu.cpus * count, ram=gpu.ram * count)
