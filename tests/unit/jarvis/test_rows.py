from __future__ import annotations

from decimal import Decimal

import pytest

from backends.jarvis.rows import parse, target
from backends.ssh.host import Target

RUNNING = {
    "machine_id": 7,
    "instance_name": "ftl-a",
    "status": "Running",
    "region": "india-noida-01",
    "framework": "pytorch",
    "gpu_type": "L4",
    "num_gpus": 2,
    "hdd": "100GB",
    "is_spot": None,
    "cost": 0.25,
    "ssh_str": "ssh -o StrictHostKeyChecking=no -p 11014 root@sshc.example",
}


def test_a_row_as_the_provider_sends_it() -> None:
    (row,) = parse([RUNNING])
    assert (row.id, row.name, row.gpu, row.count, row.disk_gib) == (7, "ftl-a", "L4", 2, 100)
    assert row.running
    assert not row.spot
    assert row.cost == Decimal("0.25")
    assert row.ssh == Target("root", "sshc.example", 11014)


@pytest.mark.parametrize(
    "odd",
    [
        None,
        "text",
        {},
        {"machine_id": None, "status": "Running"},
        {"machine_id": "x", "status": "Running"},
        {"machine_id": 8},
    ],
)
def test_an_odd_row_hides_no_other(odd: object) -> None:
    assert [row.id for row in parse([odd, RUNNING, odd])] == [7]


def test_a_row_with_nulls_is_still_a_machine_that_bills() -> None:
    (row,) = parse([dict.fromkeys(RUNNING) | {"machine_id": 9, "status": "Running"}])
    assert row.running
    assert row.ssh is None
    assert row.cost is None


def test_a_machine_that_does_not_run_has_no_address() -> None:
    (row,) = parse([RUNNING | {"status": "Paused"}])
    assert row.paused
    assert row.ssh is None


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("ssh ubuntu@10.0.0.1", Target("ubuntu", "10.0.0.1", 22)),
        ("ssh root@h -p 2200", Target("root", "h", 2200)),
        ("ssh -l me -p 2200 h", Target("me", "h", 2200)),
        ("ssh -i /key -o A=b -p 1 root@h", Target("root", "h", 1)),
        ("", None),
        ("scp root@h", None),
        ("ssh", None),
        ("ssh 'unclosed", None),
        ("ssh -p 22 'root@-oProxyCommand=x'", None),
        ("ssh 'root@a b'", None),
    ],
)
def test_only_the_place_is_taken_from_the_command(command: str, expected: Target | None) -> None:
    assert target(command) == expected


@pytest.mark.parametrize(
    ("template", "gpu", "vm", "cpu_vm"),
    [("pytorch", "L4", False, False), ("vm", "L4", True, False), ("vm", "CPU", True, True)],
)
def test_sorts_of_machines(template: str, gpu: str, vm: bool, cpu_vm: bool) -> None:
    (row,) = parse([RUNNING | {"framework": template, "gpu_type": gpu}])
    assert (row.vm, row.cpu_vm) == (vm, cpu_vm)
