"""Where the provider is unkind the loopback cloud is, too: in each test, a careless launcher.

A few lines of it do the obvious thing, and the end of the test shows what that cost: files that are
lost, or a machine that bills and that nobody knows of.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from clouds.jarvis import Cloud, Timings
from clouds.jarvis.guest import Guest, until
from jarvislabs import Client
from jarvislabs.exceptions import (
    APIError,
    InsufficientBalanceError,
    NotFoundError,
    ValidationError,
)
from jarvislabs.models import Instance

NOIDA = "india-noida-01"


AGES = 1e5
"""Longer than any test, in provider seconds; `Cloud.skip` gets over it."""


def late(**what: float) -> pytest.MarkDecorator:
    """For a test whose cloud is late in this."""
    return pytest.mark.parametrize("cloud", [Timings(**what)], indirect=True, ids=["late"])


def order(name: str = "ftl-job", **other: Any) -> dict[str, Any]:
    """A create without the SDK's patience."""
    return {"gpu_type": "L4", "num_gpus": 1, "hdd": 100, "region": NOIDA, "name": name, **other}


def raw(client: Client, method: str, path: str, **more: Any) -> Any:
    return client._transport.request(method, path, **more)


@pytest.fixture
def rent(client: Client, guest: Guest) -> Callable[..., tuple[Instance, str]]:
    """A machine that can be reached, and how."""

    def make(**wish: Any) -> tuple[Instance, str]:
        made = client.instances.create(**{"gpu_type": "L4", "name": "ftl-job", **wish})
        assert made.ssh_command is not None
        guest.wait(made.ssh_command)
        return made, made.ssh_command

    return make


Rent = Callable[..., tuple[Instance, str]]


def gpu_bills(cloud: Cloud) -> list[str]:
    return [bill.name for bill in cloud.meter.billing("gpu")]


@late(known=AGES, boot=0)
def test_a_status_of_404_does_not_mean_that_there_is_no_machine(
    cloud: Cloud, client: Client
) -> None:
    number = raw(client, "POST", "templates/pytorch/create", json=order())["machine_id"]
    with pytest.raises(NotFoundError):
        raw(client, "GET", "misc/status", params={"machine_id": number})
    # Careless: "there is none, so nothing bills".
    until(lambda: gpu_bills(cloud) == ["ftl-job"])


@late(listed=AGES)
def test_a_list_without_it_does_not_mean_that_it_was_not_created(
    cloud: Cloud, client: Client
) -> None:
    cloud.fail("POST", "templates/pytorch/create", "drop-after")
    with pytest.raises(APIError):
        raw(client, "POST", "templates/pytorch/create", json=order())
    # Careless: looks for an orphan once, right away.
    assert client.instances.list() == []
    until(lambda: gpu_bills(cloud) == ["ftl-job"])
    cloud.skip(AGES)
    assert [row.name for row in client.instances.list()] == ["ftl-job"]


@late(ssh_delay=AGES)
def test_running_is_not_reachable(cloud: Cloud, client: Client, guest: Guest) -> None:
    made = client.instances.create(gpu_type="L4", name="ftl-job")
    assert (made.status, bool(made.ssh_command)) == ("Running", True)
    assert made.ssh_command is not None
    # Careless: takes the first refusal for the machine's death.
    assert "refused" in guest.run(made.ssh_command, "true").stderr
    cloud.skip(AGES)
    guest.wait(made.ssh_command)


def test_without_a_key_create_succeeds_and_the_machine_is_out_of_reach(
    cloud: Cloud, nobody: Client, guest: Guest
) -> None:
    made = nobody.instances.create(gpu_type="L4", name="ftl-job")
    assert (made.status, made.ssh_command) == ("Running", "")
    # Careless: adds the key now, and waits for it to arrive.
    nobody.ssh_keys.add(guest.public, "late")
    assert nobody.instances.get(made.machine_id).ssh_command == ""
    assert gpu_bills(cloud) == ["ftl-job"]


def test_a_key_that_comes_after_the_boot_is_never_let_in(
    cloud: Cloud, nobody: Client, guest: Guest, tmp_path_factory: pytest.TempPathFactory
) -> None:
    someone = Guest(tmp_path_factory.mktemp("someone"))
    nobody.ssh_keys.add(someone.public, "someone's")
    made = nobody.instances.create(gpu_type="L4", name="ftl-job")
    assert made.ssh_command is not None
    nobody.ssh_keys.add(guest.public, "late")
    someone.wait(made.ssh_command)
    assert "Permission denied" in guest.run(made.ssh_command, "true").stderr
    assert gpu_bills(cloud) == ["ftl-job"]


def test_a_pause_keeps_nothing_of_a_container_but_home(
    client: Client, guest: Guest, rent: Rent
) -> None:
    made, ssh = rent()
    places = "/home /root /workspace /tmp /var/tmp /opt"
    guest.says(ssh, f"for at in {places}; do mkdir -p $at/out; echo 1 > $at/out/adapter; done")
    client.instances.pause(made.machine_id)
    until(lambda: client.instances.get(made.machine_id).status == "Paused")
    again = client.instances.resume(made.machine_id)
    assert again.ssh_command is not None
    guest.known_hosts.unlink()
    guest.wait(again.ssh_command)
    found = guest.run(again.ssh_command, f"for at in {places}; do ls $at/out/adapter; done")
    assert found.stdout == "/home/out/adapter\n"


def test_a_resumed_machine_has_another_id_and_the_old_one_ends_nothing(
    cloud: Cloud, client: Client
) -> None:
    made = client.instances.create(gpu_type="L4", name="ftl-job")
    client.instances.pause(made.machine_id)
    until(lambda: client.instances.get(made.machine_id).status == "Paused")
    again = client.instances.resume(made.machine_id)
    # Careless: ends the machine it created, and takes "not found" for "gone".
    with pytest.raises(NotFoundError):
        client.instances.destroy(made.machine_id)
    assert [bill.machine for bill in cloud.meter.billing("gpu")] == [again.machine_id]
    assert again.cost < 0.01  # its running total began anew


def test_a_resumed_spot_machine_is_no_spot_machine(cloud: Cloud, client: Client) -> None:
    made = client.instances.create(gpu_type="L4", name="ftl-job", is_spot=True)
    cloud.reclaim(made.machine_id)
    again = client.instances.resume(made.machine_id)
    assert not again.is_spot
    rates = [span.rate for span in cloud.meter.spans if span.kind == "gpu"]
    assert rates == [Decimal("0.29"), Decimal("0.44")]


def test_a_resume_is_held_to_its_region_and_to_what_is_free_there(
    cloud: Cloud, client: Client
) -> None:
    made = client.instances.create(gpu_type="L4", name="ftl-job")
    client.instances.pause(made.machine_id)
    until(lambda: client.instances.get(made.machine_id).status == "Paused")
    resume = order() | {"machine_id": made.machine_id}
    with pytest.raises(NotFoundError):
        raw(client, "POST", "templates/pytorch/resume", json=resume,
            base_url=cloud.regions["india-chennai-01"])  # fmt: skip
    cloud.capacity("L4", NOIDA, 0)
    # Careless: "paused" was to be a moment; the disk bills until somebody notices.
    with pytest.raises(APIError, match="not available"):
        client.instances.resume(made.machine_id)
    assert [bill.kind for bill in cloud.meter.billing()] == ["disk"]


def test_a_port_is_soon_another_machines(client: Client, guest: Guest, rent: Rent) -> None:
    first, ssh = rent()
    client.instances.destroy(first.machine_id)
    until(lambda: client.instances.list() == [])
    second = client.instances.create(gpu_type="L4", name="ftl-other")
    assert second.ssh_command == ssh
    # Careless: one file of known hosts for all machines.
    until(lambda: "refused" not in guest.run(ssh, "true").stderr)
    assert "HOST IDENTIFICATION HAS CHANGED" in guest.run(_loud(ssh), "true").stderr
    guest.known_hosts.unlink()
    guest.wait(ssh)


def _loud(ssh: str) -> str:
    """Without the provider's wish that host keys do not matter."""
    return ssh.replace("-o StrictHostKeyChecking=no ", "-o LogLevel=INFO ")


def test_a_spot_machine_is_simply_paused(cloud: Cloud, client: Client, guest: Guest,
                                         rent: Rent) -> None:  # fmt: skip
    made, ssh = rent(is_spot=True)
    # Careless: trains where there is room, and waits for the machine to answer again.
    guest.says(ssh, "echo step 100 > /workspace/checkpoint; (sleep 600 >/dev/null 2>&1 &)")
    cloud.reclaim(made.machine_id)
    assert client.instances.get(made.machine_id).status == "Paused"
    assert guest.run(ssh, "true").returncode == 255
    assert not (cloud.files(cloud.machine(made.machine_id)) / "workspace/checkpoint").exists()


@late(ending=AGES)
def test_a_machine_is_not_gone_when_its_end_is_accepted(cloud: Cloud, client: Client) -> None:
    made = client.instances.create(gpu_type="L4", name="ftl-job")
    assert client.instances.destroy(made.machine_id)
    # Careless: takes the answer for the deed. Here it is still there, and bills.
    (row,) = client.instances.list()
    assert row.status == "Destroying"
    assert gpu_bills(cloud) == ["ftl-job"]
    cloud.skip(AGES)
    until(lambda: gpu_bills(cloud) == [])


def test_a_destroy_that_fails_leaves_it_running(cloud: Cloud, client: Client) -> None:
    made = client.instances.create(gpu_type="L4", name="ftl-job")
    cloud.fail("POST", "misc/destroy", 500)
    # Careless: "it was told to end".
    with pytest.raises(APIError):
        client.instances.destroy(made.machine_id)
    assert client.instances.get(made.machine_id).status == "Running"
    assert gpu_bills(cloud) == ["ftl-job"]


def test_a_virtual_machine_with_a_small_disk_is_refused(client: Client) -> None:
    with pytest.raises(APIError, match="at least 100 GB"):
        client.instances.create(gpu_type="L4", template="vm", storage=50)


def test_a_virtual_machine_without_a_key_is_refused(nobody: Client) -> None:
    with pytest.raises(APIError, match="SSH key"):
        raw(nobody, "POST", "templates/vm/create", json=order())


def test_a_startup_script_is_ignored_by_a_virtual_machine(
    cloud: Cloud, client: Client, guest: Guest, rent: Rent
) -> None:
    client.scripts.add("touch /home/ran")
    number = str(client.scripts.list()[0].script_id)
    _, ssh = rent(template="vm", script_id=number)
    # Careless: relies on it to end the machine when nobody comes back.
    assert guest.says(ssh, "ls /home") == "ubuntu"


def test_capacity_runs_out_between_the_catalogue_and_the_create(
    cloud: Cloud, client: Client
) -> None:
    assert any(row.num_free_devices >= 8 for row in client.account.gpu_availability())
    cloud.capacity("L4", NOIDA, 1)
    with pytest.raises(ValidationError, match="No free L4"):
        client.instances.create(gpu_type="L4", num_gpus=2, region=NOIDA)
    with pytest.raises(APIError, match="not available right now"):
        client.instances.create(gpu_type="L4", num_gpus=2)
    client.instances.create(gpu_type="L4", name="the last")
    assert {row.num_free_devices for row in client.account.gpu_availability()
            if row.gpu_type == "L4"} == {0}  # fmt: skip


def test_an_empty_balance_pauses_what_runs_and_starts_nothing(
    cloud: Cloud, client: Client, guest: Guest, rent: Rent
) -> None:
    made, ssh = rent()
    guest.says(ssh, "echo 1 > /root/adapter")
    cloud.run_dry()
    # Careless: believes that what it started still runs.
    until(lambda: client.instances.get(made.machine_id).status == "Paused")
    assert not (cloud.files(cloud.machine(made.machine_id)) / "root/adapter").exists()
    with pytest.raises(InsufficientBalanceError):
        client.instances.create(gpu_type="L4")
    with pytest.raises(InsufficientBalanceError):
        client.instances.resume(made.machine_id)
    until(lambda: client.account.balance().balance < 0)  # its disk goes on


def test_a_balance_that_is_used_up_is_noticed_without_being_asked(
    cloud: Cloud, client: Client
) -> None:
    made = client.instances.create(gpu_type="H100", num_gpus=8, name="ftl-job")
    cloud.set_balance(Decimal("0.01"))
    until(lambda: cloud.machine(made.machine_id).status == "Paused")


def test_what_an_image_prints_at_a_login_comes_before_our_own_words(
    cloud: Cloud, client: Client, guest: Guest
) -> None:
    made = client.instances.create(gpu_type="L4", template="tensorflow", name="ftl-job")
    assert made.ssh_command is not None
    guest.wait(made.ssh_command)
    done = subprocess.run(guest.command(made.ssh_command, """echo '{"state": 1}'"""),
                          capture_output=True, text=True, check=True)  # fmt: skip
    # Careless: parses all of it.
    assert done.stdout == 'Welcome to your image\n{"state": 1}\n'
