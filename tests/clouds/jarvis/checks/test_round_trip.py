"""The unmodified SDK against the loopback cloud: everything it offers for machines works."""

from __future__ import annotations

import pytest
from clouds.jarvis import Cloud
from clouds.jarvis.guest import Guest, until
from jarvislabs import Client
from jarvislabs.exceptions import AuthError, NotFoundError


def test_a_container_from_create_to_destroy(cloud: Cloud, client: Client, guest: Guest) -> None:
    made = client.instances.create(gpu_type="L4", template="axolotl", name="ftl-one", storage=50)
    assert (made.status, made.name, made.region, made.storage_gb, made.template) == (
        "Running", "ftl-one", "india-noida-01", 50, "axolotl",
    )  # fmt: skip
    assert made.ssh_command is not None
    guest.wait(made.ssh_command)
    assert guest.says(made.ssh_command, "echo $HOME; touch /home/kept /root/lost") == "/root"

    assert client.instances.rename(made.machine_id, "ftl-two")
    assert [row.name for row in client.instances.list()] == ["ftl-two"]

    assert client.instances.pause(made.machine_id)
    until(lambda: client.instances.get(made.machine_id).status == "Paused")
    assert client.account.resource_metrics().paused_instances == 1

    again = client.instances.resume(made.machine_id)
    assert again.machine_id != made.machine_id
    assert again.ssh_command is not None
    guest.known_hosts.unlink()
    guest.wait(again.ssh_command)
    assert guest.says(again.ssh_command, "ls /home /root") == "/home:\nkept\n\n/root:"

    assert client.instances.destroy(again.machine_id)
    until(lambda: client.instances.list() == [])
    assert cloud.meter.billing() == []


def test_a_virtual_machine_keeps_its_whole_disk(client: Client, guest: Guest) -> None:
    made = client.instances.create(gpu_type="L4", template="vm", name="ftl-vm", storage=100)
    assert made.ssh_command is not None
    guest.wait(made.ssh_command)
    home = guest.says(made.ssh_command, "echo here > ~/file; echo there > /var/tmp/file; echo ~")
    client.instances.pause(made.machine_id)
    until(lambda: client.instances.get(made.machine_id).status == "Paused")
    again = client.instances.resume(made.machine_id)
    assert again.ssh_command is not None
    guest.known_hosts.unlink()
    guest.wait(again.ssh_command)
    assert home == "/home/ubuntu"
    assert guest.says(again.ssh_command, "cat ~/file /var/tmp/file") == "here\nthere"
    assert client.instances.destroy(again.machine_id)
    with pytest.raises(NotFoundError):
        client.instances.pause(made.machine_id)


def test_a_machine_without_a_gpu(cloud: Cloud, client: Client) -> None:
    made = client.instances.create(cpu=True, template="vm", vcpus=4, ram=16, name="ftl-cpu")
    assert (made.gpu_type, made.template, made.cores, made.ram) == ("CPU", "vm", 4, 16)
    assert client.account.resource_metrics().running_vms == 1
    client.instances.pause(made.machine_id)
    until(lambda: client.instances.get(made.machine_id).status == "Paused")
    again = client.instances.resume(made.machine_id, vcpus=8, ram=32)
    assert (again.cores, again.ram) == (8, 32)
    client.instances.destroy(again.machine_id)
    until(lambda: cloud.meter.billing() == [])


def test_spot_is_cheaper_and_chennai_is_elsewhere(cloud: Cloud, client: Client) -> None:
    made = client.instances.create(gpu_type="RTX-PRO6000", num_gpus=2, is_spot=True, name="ftl-s")
    assert (made.region, made.is_spot, made.num_gpus) == ("india-chennai-01", True, 2)
    (span,) = [span for span in cloud.meter.spans if span.kind == "gpu"]
    assert str(span.rate) == "1.98"


def test_the_catalogue_has_every_region_and_both_kinds(cloud: Cloud, client: Client) -> None:
    rows = client.account.gpu_availability()
    kinds = {(row.region, row.workload_type) for row in rows}
    assert kinds >= {("india-noida-01", "vm"), ("india-chennai-01", "container")}
    assert ("europe-01", None) in kinds
    (h200,) = [row for row in rows if row.gpu_type == "H200" and row.region == "europe-01"]
    assert (h200.price_per_hour, h200.spot_price, h200.num_free_devices) == (3.99, None, 1)
    assert client.account.currency() == "USD"
    cloud.currency("INR")
    assert client.account.currency() == "INR"
    (h200,) = [row for row in client.account.gpu_availability() if row == h200.model_copy(
        update={"price_per_hour": 351.12})]  # fmt: skip
    assert {one.id for one in client.account.templates()} >= {"pytorch", "axolotl", "vm"}


def test_keys_scripts_and_filesystems_have_their_limits(client: Client, guest: Guest) -> None:
    for number in range(9):
        client.ssh_keys.add(guest.public, f"key {number}")
    with pytest.raises(Exception, match="up to 10 SSH keys"):
        client.ssh_keys.add(guest.public, "one too many")
    first = client.ssh_keys.list()[0]
    assert client.ssh_keys.remove(first.key_id)
    assert first.key_id not in {key.key_id for key in client.ssh_keys.list()}

    for number in range(3):
        client.scripts.add("true", f"script {number}")
    with pytest.raises(Exception, match="up to 3 startup scripts"):
        client.scripts.add("true")
    assert client.scripts.remove(client.scripts.list()[0].script_id)
    assert [script.script_name for script in client.scripts.list()] == ["script 1", "script 2"]

    number = client.filesystems.create("models", 50, region="IN1")
    assert client.filesystems.edit(number, 60) == number
    (one,) = client.filesystems.list()
    assert (one.fs_name, one.storage, one.region) == ("models", 60, "india-chennai-01")
    with pytest.raises(Exception, match="can only be increased"):
        client.filesystems.edit(number, 50)
    assert client.filesystems.remove(number)
    assert client.filesystems.list() == []


def test_a_startup_script_runs_in_a_container(client: Client, guest: Guest) -> None:
    client.scripts.add('echo "$1" > /home/said', "greeting")
    (script,) = client.scripts.list()
    made = client.instances.create(
        gpu_type="L4", name="s", script_id=str(script.script_id), script_args="'good morning'"
    )
    assert made.ssh_command is not None
    guest.wait(made.ssh_command)
    command = made.ssh_command
    until(lambda: guest.run(command, "cat /home/said").stdout == "good morning\n")


def test_a_filesystem_is_shared_between_machines(
    cloud: Cloud, client: Client, guest: Guest
) -> None:
    number = client.filesystems.create("models", 50)
    for name, script in (("one", "echo weights > /home/jl_fs/m"), ("two", "cat /home/jl_fs/m")):
        made = client.instances.create(gpu_type="L4", name=name, fs_id=number)
        assert made.ssh_command is not None
        guest.wait(made.ssh_command)
        said = guest.says(made.ssh_command, script)
    assert said == "weights"
    with pytest.raises(Exception, match="attached"):
        client.filesystems.remove(number)
    client.instances.destroy(made.machine_id)
    until(lambda: cloud.machine(made.machine_id).gone is not None)
    assert [bill.kind for bill in cloud.meter.billing("filesystem")] == ["filesystem"]


def test_only_the_accounts_key_is_let_in(cloud: Cloud, client: Client) -> None:
    assert client.account.balance().balance == 100.0
    assert client.account.user_info().name == "Someone"
    with Client("jl_someone_elses") as other, pytest.raises(AuthError):
        other.account.balance()
    assert cloud.requests[-1].status == 401
