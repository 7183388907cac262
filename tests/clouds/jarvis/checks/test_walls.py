"""Machines are apart from each other and from this one, and nothing of them outlives its time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
from clouds.jarvis import Cloud, Template, lacking
from clouds.jarvis.engine import TESTS
from clouds.jarvis.guest import Guest, until
from jarvislabs import Client


def alive(mark: str) -> int:
    """How many processes of this machine have this in their command line."""
    found = 0
    for entry in Path("/proc").iterdir():
        try:
            found += mark.encode() in (entry / "cmdline").read_bytes()
        except OSError:
            continue
    return found


def reached(client: Client, guest: Guest, **wish: Any) -> tuple[int, str]:
    order: dict[str, Any] = {"gpu_type": "L4", "name": "ftl-job", **wish}
    made = client.instances.create(**order)
    assert made.ssh_command is not None
    guest.wait(made.ssh_command)
    return made.machine_id, made.ssh_command


def busy(mark: str) -> str:
    """Starts something that wants to live for ever, whatever happens to its parents."""
    return f"trap '' HUP TERM; (setsid sh -c 'trap \"\" TERM; while :; do sleep {mark}; done' \
        >/dev/null 2>&1 </dev/null &)"


@pytest.fixture
def mark(tmp_path: Path) -> str:
    return f"9{abs(hash(tmp_path)) % 10**9}"


@pytest.mark.parametrize("end", ["destroy", "pause"])
def test_every_process_of_a_machine_ends_with_it(
    cloud: Cloud, client: Client, guest: Guest, mark: str, end: str
) -> None:
    number, ssh = reached(client, guest)
    guest.says(ssh, busy(mark))
    until(lambda: alive(mark) > 0)
    getattr(client.instances, end)(number)
    until(lambda: cloud.machine(number).status in {"Gone", "Paused"})
    assert alive(mark) == 0


def test_a_machine_sees_no_files_and_no_processes_but_its_own(
    cloud: Cloud, client: Client, guest: Guest, tmp_path: Path
) -> None:
    _, one = reached(client, guest)
    _, two = reached(client, guest, name="ftl-other")
    for ssh, name in ((one, "one"), (two, "two")):
        guest.says(ssh, f"echo {name} | tee /home/me /root/me /tmp/me /workspace/me")
    for ssh, name in ((one, "one"), (two, "two")):
        assert set(guest.says(ssh, "cat /home/me /root/me /tmp/me /workspace/me").split()) == {name}
    assert guest.run(one, f"ls {tmp_path}").returncode != 0
    assert guest.run(one, f"ls {TESTS}").returncode != 0
    assert guest.says(one, "ls /proc | grep -cx '[0-9]*'").isdigit()
    assert int(guest.says(one, "ls /proc | grep -cx '[0-9]*'")) < 15
    assert guest.says(one, "hostname") != guest.says(two, "hostname")
    files = cloud.files(cloud.machine("ftl-other"))
    assert (files / "home/me").read_text() == "two\n"


def test_what_is_made_visible_is_there_and_read_only(
    tmp_path: Path, guest: Guest, missing: Callable[[str, str], NoReturn]
) -> None:
    if lack := lacking():
        missing(lack, "the machines of a loopback cloud are reached by it")
    tools = tmp_path / "tools"
    (tools / "bin").mkdir(parents=True)
    (tools / "bin/python3").write_text("#!/bin/sh\necho ours\n")
    (tools / "bin/python3").chmod(0o755)
    template = Template(path_first=[tools / "bin"], env={"HF_HOME": "/workspace/hub"})
    shown = {"axolotl": template, "fastai": Template(python=False)}
    with (
        Cloud(tmp_path / "cloud", speed=100, visible=[tools], templates=shown) as cloud,
        cloud.patch(),
        Client(cloud.key) as client,
    ):
        client.ssh_keys.add(guest.public, "guest")
        _, ssh = reached(client, guest, template="axolotl")
        assert guest.says(ssh, "python3; echo $HF_HOME") == "ours\n/workspace/hub"
        assert guest.run(ssh, f"touch {tools}/new").returncode != 0
        _, ssh = reached(client, guest, template="vm")
        assert guest.run(ssh, "python3 -c ''; echo $HF_HOME").stdout == "\n"
        _, ssh = reached(client, guest, template="fastai")
        names = "python3 python /usr/bin/python3 /usr/local/bin/python3"
        assert (
            guest.says(ssh, f"for it in {names}; do $it -c 'print(1)'; done 2>/dev/null; :") == ""
        )


OPEN = textwrap.dedent("""
    import sys
    from pathlib import Path
    from clouds.jarvis import Cloud
    cloud = Cloud(Path(sys.argv[1]), speed=100, key="jl_test")
    cloud.open()
    print(cloud.regions["india-noida-01"], flush=True)
    sys.stdin.read()
    cloud.close()
""")


@pytest.mark.parametrize("how", [signal.SIGKILL, None])
def test_nothing_outlives_the_process_that_opened_the_cloud(
    tmp_path: Path, how: signal.Signals | None, missing: Callable[[str, str], NoReturn]
) -> None:
    if lack := lacking():
        missing(lack, "the machines of a loopback cloud are reached by it")
    folder = tmp_path / "cloud"
    opener = subprocess.Popen(
        [sys.executable, "-c", OPEN, str(folder)],
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert opener.stdout is not None
    url = opener.stdout.readline().strip()
    from jarvislabs.transport import Transport

    order = {"gpu_type": "L4", "num_gpus": 1, "hdd": 100, "region": "india-noida-01", "name": "a"}
    transport = Transport("jl_test", url)
    transport.request("POST", "templates/pytorch/create", json=order)
    transport.close()
    until(lambda: alive(str(folder / "machines")) > 0)
    if how is None:
        opener.communicate()
        assert opener.returncode == 0
    else:
        opener.send_signal(how)
        opener.communicate()
    until(lambda: alive(str(folder)) == 0)
    mounted = Path("/proc/self/mounts").read_text()
    assert str(tmp_path) not in mounted


def test_a_cloud_that_crashed_goes_on_with_what_it_had(
    cloud: Cloud, client: Client, guest: Guest, mark: str
) -> None:
    number, ssh = reached(client, guest)
    paused, _ = reached(client, guest, name="ftl-paused")
    client.instances.pause(paused)
    until(lambda: client.instances.get(paused).status == "Paused")
    guest.says(ssh, f"echo here > /root/file; {busy(mark)}")
    before = cloud.meter.total
    cloud.kill()
    until(lambda: alive(mark) == 0)
    cloud.open()
    with cloud.patch(), Client(cloud.key) as again:
        rows = {row.machine_id: row.status for row in again.instances.list()}
        assert rows == {number: "Running", paused: "Paused"}
        ssh = again.instances.get(number).ssh_command or ""
        guest.wait(ssh)
        assert guest.says(ssh, "cat /root/file") == "here"
        assert again.ssh_keys.list()[0].key_name == "guest"
    assert cloud.meter.total > before


WITHOUT_ROOT = textwrap.dedent("""
    import json, sys, urllib.request
    from pathlib import Path
    from clouds.jarvis import Cloud
    from clouds.jarvis.guest import Guest, until

    folder = Path(sys.argv[1])
    guest = Guest(folder / "guest")
    order = {"gpu_type": "L4", "num_gpus": 1, "hdd": 50, "region": "india-noida-01", "name": "a"}
    with Cloud(folder / "cloud", speed=100) as cloud:
        def post(path, body):
            headers = {"Authorization": f"Bearer {cloud.key}", "Content-Type": "application/json"}
            url = cloud.regions["india-noida-01"] + path
            asked = urllib.request.Request(url, json.dumps(body).encode(), headers)
            with urllib.request.urlopen(asked) as answer:
                return json.load(answer)

        post("ssh/", {"ssh_key": guest.public, "key_name": "guest"})
        number = post("templates/pytorch/create", order)["machine_id"]
        until(lambda: cloud.machine(number).listening)
        ssh = cloud.machine(number).ssh
        guest.says(ssh, "(sleep SECONDS >/dev/null 2>&1 </dev/null &) ; touch ~/mine")
        print(cloud.isolation, guest.says(ssh, "id -u; ls ~"))
        post(f"misc/destroy?machine_id={number}", {})
        until(lambda: cloud.machine(number).gone is not None)
""")


def test_without_root_there_are_machines_as_well(
    mark: str, missing: Callable[[str, str], NoReturn]
) -> None:
    if os.geteuid() != 0:
        pytest.skip("all other tests are run without root")
    with tempfile.TemporaryDirectory() as folder:
        os.chown(folder, 65534, 65534)
        # `env` because setpriv itself may still start what the user may not.
        become = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "env"]
        environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(TESTS), "HOME": folder}
        for python in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
            probe = "import clouds.jarvis.cloud"
            test = [*become, python, "-B", "-c", probe]
            if subprocess.run(test, env=environ, check=False, capture_output=True).returncode == 0:
                break
        else:
            missing("a Python of 3.11 or newer for everybody", "the cloud without root needs it")
        program = WITHOUT_ROOT.replace("SECONDS", mark)
        done = subprocess.run(
            [*become, python, "-B", "-c", program, folder],
            env=environ, cwd="/", capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert done.stderr == ""
    assert done.stdout.split() in (["user", "65534", "mine"], ["plain", "65534", "mine"])
    assert alive(mark) == 0


@pytest.mark.parametrize("end", ["destroy", "pause"])
def test_without_walls_a_machine_still_ends_whole(
    tmp_path: Path, guest: Guest, mark: str, end: str, missing: Callable[[str, str], NoReturn]
) -> None:
    if lack := lacking():
        missing(lack, "the machines of a loopback cloud are reached by it")
    with (
        Cloud(tmp_path / "cloud", speed=100, isolation="plain") as cloud,
        cloud.patch(),
        Client(cloud.key) as client,
    ):
        client.ssh_keys.add(guest.public, "guest")
        number, ssh = reached(client, guest)
        home = guest.says(ssh, f"echo 1 > ~/file; echo $HOME; {busy(mark)}")
        assert home == str(cloud.files(cloud.machine(number)) / "root")
        until(lambda: alive(mark) > 0)
        getattr(client.instances, end)(number)
        until(lambda: cloud.machine(number).status in {"Gone", "Paused"})
        assert alive(mark) == 0
        assert not Path(home).exists()


def test_its_own_failure_is_the_tests_failure(tmp_path: Path) -> None:
    cloud = Cloud(tmp_path / "cloud")
    cloud.open()
    with (tmp_path / "cloud/server.log").open("a") as log:
        log.write("Traceback")
    with pytest.raises(AssertionError, match="loopback cloud failed"):
        cloud.close()


def test_no_key_of_the_account_is_written_anywhere(cloud: Cloud, client: Client) -> None:
    client.instances.create(gpu_type="L4", name="ftl-job")
    for file in cloud.folder.rglob("*"):
        if file.is_file():
            assert cloud.key not in file.read_text(errors="replace")
    assert alive(cloud.key) == 0
