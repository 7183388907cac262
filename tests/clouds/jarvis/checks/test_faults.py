"""What goes wrong on demand, and what the unmodified SDK makes of it."""

from __future__ import annotations

import json
import select
import signal
import subprocess
import threading
import time
from typing import Any

import pydantic
import pytest
from clouds.jarvis import Cloud, Timings
from clouds.jarvis.guest import Guest, until
from jarvislabs import Client
from jarvislabs.exceptions import APIError, AuthError, JarvislabsError, NotFoundError

STATUS = "misc/status"
ORDER: dict[str, Any] = {"gpu_type": "L4", "name": "ftl-job"}


def billing(cloud: Cloud) -> list[str]:
    return [bill.name for bill in cloud.meter.billing("gpu")]


def test_a_lost_reply_to_create_leaves_an_orphan(cloud: Cloud, client: Client) -> None:
    fault = cloud.fail("POST", "templates/.*/create", "drop-after")
    with pytest.raises(APIError) as caught:
        client.instances.create(**ORDER)
    assert (caught.value.status_code, fault.hits) == (0, 1)
    until(lambda: billing(cloud) == ["ftl-job"])


def test_a_create_that_never_arrived_leaves_nothing(cloud: Cloud, client: Client) -> None:
    cloud.fail("POST", "templates/.*/create", "drop")
    with pytest.raises(APIError):
        client.instances.create(**ORDER)
    assert cloud.machines == []


@pytest.mark.parametrize(("status", "error"), [(522, APIError), (401, AuthError)])
def test_one_bad_answer_while_it_waits_leaves_a_running_orphan(
    cloud: Cloud, client: Client, status: int, error: type[JarvislabsError]
) -> None:
    cloud.fail("GET", STATUS, status, after=1)
    with pytest.raises(error, match=str(status)):
        client.instances.create(**ORDER)
    until(lambda: billing(cloud) == ["ftl-job"])


def test_a_machine_that_fails_leaves_a_row(cloud: Cloud, client: Client) -> None:
    cloud.fate("ftl-.*", fail="no host took it")
    with pytest.raises(APIError, match="no host took it"):
        client.instances.create(**ORDER)
    until(lambda: [row.status for row in client.instances.list()] == ["Failed"])
    assert cloud.meter.billing() == []
    assert client.instances.destroy(client.instances.list()[0].machine_id)
    until(lambda: client.instances.list() == [])
    assert client.instances.create(**ORDER).status == "Running"  # its fate was that of one


def test_a_machine_that_is_taken_away_as_it_starts_is_paused(cloud: Cloud, client: Client) -> None:
    """The SDK waits for it for ten minutes."""
    cloud.fate("ftl-.*", taken=True)

    def interrupt() -> None:
        until(lambda: [machine.status for machine in cloud.machines] == ["Paused"])
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    somebody = threading.Thread(target=interrupt)
    somebody.start()
    with pytest.raises(KeyboardInterrupt):
        client.instances.create(**ORDER)
    somebody.join()
    assert [row.status for row in client.instances.list()] == ["Paused"]
    assert [bill.kind for bill in cloud.meter.billing()] == ["disk"]


@pytest.mark.parametrize("cloud", [Timings(listed=1e5)], indirect=True, ids=["late"])
def test_a_row_that_comes_too_late_leaves_the_id_in_the_text_only(
    cloud: Cloud, client: Client
) -> None:
    with pytest.raises(NotFoundError, match="437621 not found"):
        client.instances.create(**ORDER)
    assert billing(cloud) == ["ftl-job"]


def test_an_interrupted_create_leaves_an_orphan(cloud: Cloud, client: Client) -> None:
    cloud.fate(boot=1e5)

    def interrupt() -> None:
        until(lambda: bool(cloud.machines))
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    somebody = threading.Thread(target=interrupt)
    somebody.start()
    with pytest.raises(KeyboardInterrupt):
        client.instances.create(**ORDER)
    somebody.join()
    cloud.skip(1e5)
    until(lambda: billing(cloud) == ["ftl-job"])


def test_a_row_with_null_hides_all_rows(cloud: Cloud, client: Client) -> None:
    client.instances.create(**ORDER)
    catalogue = cloud.fail("GET", "misc/server_meta", "nulls", times=None)
    with pytest.raises(pydantic.ValidationError):
        client.account.gpu_availability()
    rows = cloud.fail("GET", "users/fetch", "nulls", times=None)
    with pytest.raises(pydantic.ValidationError):
        client.instances.list()
    catalogue.forget()
    rows.forget()
    assert client.account.gpu_availability()
    assert len(client.instances.list()) == 1


@pytest.mark.parametrize("do", ["nonsense", "nonsense-after"])
def test_an_answer_that_is_not_json(cloud: Cloud, client: Client, do: Any) -> None:
    cloud.fail("POST", "templates/.*/create", do)
    with pytest.raises(json.JSONDecodeError):
        client.instances.create(**ORDER)
    assert len(cloud.machines) == (1 if do == "nonsense-after" else 0)


def test_a_destroy_that_says_500_and_does_it_anyway(cloud: Cloud, client: Client) -> None:
    made = client.instances.create(**ORDER)
    cloud.fail("POST", rf"misc/destroy\?machine_id={made.machine_id}", ("after", 500))
    assert client.instances.destroy(made.machine_id)
    until(lambda: cloud.meter.billing() == [])


def test_the_first_calls_are_spared_and_the_last_ones_too(cloud: Cloud, client: Client) -> None:
    fault = cloud.fail("GET", "users/balance", 522, after=1, times=2)
    answers = []
    for _ in range(4):
        try:
            answers.append(client.account.balance().balance)
        except APIError as error:
            answers.append(error.status_code)
    assert (answers, fault.hits) == ([100.0, 522, 522, 100.0], 2)


def test_what_may_be_asked_again_is_asked_again(cloud: Cloud, client: Client) -> None:
    cloud.fail("GET", "users/balance", 503, times=2)
    cloud.fail("GET", "users/balance", "drop", times=1)
    assert client.account.balance().balance == 100.0
    seen = [one.status for one in cloud.requests if one.path == "users/balance"]
    assert seen == [503, 503, 0, 200]


def test_a_delay_is_a_delay(cloud: Cloud, client: Client) -> None:
    cloud.fail("*", "ssh", ("delay", 0.4), times=1)
    began = time.monotonic()
    client.ssh_keys.list()
    assert time.monotonic() - began >= 0.4


def test_forgiven_is_forgiven(cloud: Cloud, client: Client) -> None:
    cloud.fail("*", ".*", 522, times=None)
    with pytest.raises(APIError):
        client.account.balance()
    cloud.forgive()
    assert client.account.balance().balance == 100.0


def test_in_a_silence_nothing_answers_and_everything_goes_on(
    cloud: Cloud, client: Client, guest: Guest
) -> None:
    made = client.instances.create(**ORDER)
    assert made.ssh_command is not None
    guest.wait(made.ssh_command)
    guest.says(made.ssh_command, "(sleep 1; echo done > /home/done) >/dev/null 2>&1 </dev/null &")
    with cloud.silence():
        with pytest.raises(APIError, match="Connection failed"):
            client.account.balance()
        assert guest.run(made.ssh_command, "true").returncode == 255
    guest.wait(made.ssh_command)
    until(lambda: guest.run(made.ssh_command or "", "cat /home/done").stdout == "done\n")


def test_a_machine_out_of_reach_in_every_way(cloud: Cloud, client: Client, guest: Guest) -> None:
    made = client.instances.create(**ORDER)
    assert made.ssh_command is not None
    guest.wait(made.ssh_command)
    cloud.unreachable(made.machine_id)
    # A connection that was just being taken is reset.
    until(lambda: "refused" in guest.run(made.ssh_command or "", "true").stderr)
    cloud.reach(made.machine_id, "deny")
    until(lambda: "Permission denied" in guest.run(made.ssh_command or "", "true").stderr)
    cloud.reach(made.machine_id, "hang")
    guest.timeout = 1
    assert "timed out" in guest.run(made.ssh_command, "true").stderr
    cloud.reach(made.machine_id, "open")
    guest.wait(made.ssh_command)


def test_a_connection_outlives_a_while_without_a_network(
    cloud: Cloud, client: Client, guest: Guest
) -> None:
    made = client.instances.create(**ORDER)
    assert made.ssh_command is not None
    guest.wait(made.ssh_command)
    command = guest.command(made.ssh_command, "cat")
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as talk:
        assert talk.stdin is not None
        assert talk.stdout is not None
        talk.stdin.write(b"before\n")
        talk.stdin.flush()
        assert talk.stdout.readline() == b"before\n"
        cloud.reach(made.machine_id, "hang")
        talk.stdin.write(b"meanwhile\n")
        talk.stdin.flush()
        assert select.select([talk.stdout], [], [], 0.5)[0] == []
        cloud.reach(made.machine_id, "open")
        assert talk.stdout.readline() == b"meanwhile\n"
        cloud.unreachable(made.machine_id)
        assert talk.stdout.read() == b""
        talk.stdin.close()
    assert talk.returncode == 255


def test_a_machine_whose_sshd_never_comes_up(cloud: Cloud, client: Client, guest: Guest) -> None:
    cloud.fate(reach="refuse")
    made = client.instances.create(**ORDER)
    assert made.ssh_command is not None
    until(lambda: cloud.machine("ftl-job").listening)
    assert "refused" in guest.run(made.ssh_command, "true").stderr
    assert billing(cloud) == ["ftl-job"]


def test_a_power_cut_and_a_boot_after_it(cloud: Cloud, client: Client, guest: Guest) -> None:
    made = client.instances.create(**ORDER)
    ssh = made.ssh_command
    assert ssh is not None
    guest.wait(ssh)
    guest.says(ssh, "echo kept > /root/kept; (sleep 600 >/dev/null 2>&1 </dev/null &)")
    cloud.cut(made.machine_id, back=False)
    assert guest.run(ssh, "true").returncode == 255
    assert client.instances.get(made.machine_id).status == "Running"
    cloud.cut(made.machine_id)
    guest.wait(ssh)
    assert guest.says(ssh, "cat /root/kept; ps -e | grep -c sleep || true") == "kept\n0"


def test_a_disk_that_fills_up(cloud: Cloud, client: Client, guest: Guest) -> None:
    if cloud.isolation != "namespace":
        pytest.skip("needs root")
    cloud.fate(home_mib=8)
    made = client.instances.create(**ORDER)
    ssh = made.ssh_command
    assert ssh is not None
    guest.wait(ssh)
    assert "No space left" in guest.run(ssh, "head -c 9000000 /dev/zero > /home/big").stderr
    guest.says(ssh, "rm /home/big; echo precious > /home/results")
    cloud.fill(made.machine_id)
    assert "No space left" in guest.run(ssh, "head -c 100000 /dev/zero > /home/more").stderr
    client.instances.pause(made.machine_id)
    until(lambda: client.instances.get(made.machine_id).status == "Paused")
    again = client.instances.resume(made.machine_id)
    assert again.ssh_command is not None
    guest.known_hosts.unlink()
    guest.wait(again.ssh_command)
    assert guest.says(again.ssh_command, "cat /home/results") == "precious"
    client.instances.destroy(again.machine_id)
    until(lambda: cloud.meter.billing() == [])


def test_somebody_clicks_in_the_dashboard(cloud: Cloud, client: Client) -> None:
    made = client.instances.create(**ORDER)
    cloud.dashboard_pause(made.machine_id)
    until(lambda: client.instances.get(made.machine_id).status == "Paused")
    cloud.dashboard_destroy(made.machine_id)
    until(lambda: client.instances.list() == [])
    assert not any(one.path.startswith("misc/") for one in cloud.requests if one.method == "POST")


def test_what_is_asked_wrongly_is_an_error_in_the_test(cloud: Cloud) -> None:
    with pytest.raises(RuntimeError, match="KeyError"):
        cloud.cut(1)
