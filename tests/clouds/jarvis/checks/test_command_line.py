"""The unmodified `jl` command line against the loopback cloud: a check that it is faithful."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clouds.jarvis import Cloud
from clouds.jarvis.guest import Guest, until

JL = Path(sys.executable).with_name("jl")


class CommandLine:
    """`jl` as a user runs it, with a key in an agent: it knows no `-i`."""

    def __init__(self, environ: dict[str, str], home: Path) -> None:
        self._environ, self._home = environ, home

    def __call__(self, *words: str) -> Any:
        done = subprocess.run(
            [JL, *words],
            env=self._environ,
            cwd=self._home,
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout) if "--json" in words else done.stdout + done.stderr


@pytest.fixture
def jl(cloud: Cloud, guest: Guest, tmp_path: Path) -> Iterator[CommandLine]:
    home = tmp_path / "home"
    home.mkdir()
    socket = str(tmp_path / "agent")
    agent = subprocess.Popen(
        ["ssh-agent", "-D", "-a", socket], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    environ = {
        "PATH": os.environ["PATH"], "HOME": str(home), "SSH_AUTH_SOCK": socket, **cloud.environ,
    }  # fmt: skip
    until(lambda: Path(socket).exists())
    subprocess.run(["ssh-add", "-q", str(guest.key)], env=environ, check=True)
    run = CommandLine(environ, home)
    run("ssh-key", "add", str(guest.key.with_suffix(".pub")), "--name", "mine", "--json")
    yield run
    agent.terminate()
    agent.wait()


def test_a_machine_by_hand(jl: CommandLine, cloud: Cloud, tmp_path: Path) -> None:
    assert jl("list", "--json") == []
    made = jl("create", "--gpu", "L4", "--name", "ftl-jl", "--yes", "--json")
    number = str(made["machine_id"])
    assert (made["status"], made["gpu_type"], made["region"]) == ("Running", "L4", "IN2")

    started = jl("run", "--on", number, "--json", "--", "sh", "-c", "echo hello; exit 3")
    until(lambda: jl("run", "status", started["run_id"], "--json")["exit_code"] == 3)
    assert jl("run", "logs", started["run_id"], "--json")["content"] == "hello\n"
    said = jl("exec", number, "--json", "--", "sh", "-c", "pwd; echo $HOME")
    assert said["stdout"] == "/root\n/root\n"

    (tmp_path / "sent").write_text("there and back")
    assert jl("upload", number, str(tmp_path / "sent"), "--json")["dest"] == "/home/sent"
    jl("download", number, "/home/sent", str(tmp_path / "back"), "--json")
    assert (tmp_path / "back").read_text() == "there and back"

    jl("pause", number, "--yes", "--json")
    until(lambda: jl("get", number, "--json")["status"] == "Paused")
    again = jl("resume", number, "--storage", "120", "--yes", "--json")
    assert (again["machine_id"] != made["machine_id"], again["storage_gb"]) == (True, 120)
    jl("destroy", str(again["machine_id"]), "--yes", "--json")
    until(lambda: jl("list", "--json") == [])
    assert cloud.meter.billing() == []


def test_a_run_on_a_machine_of_its_own_ends_it(jl: CommandLine, cloud: Cloud) -> None:
    said = jl("run", "--gpu", "L4", "--destroy", "--yes", "--", "echo", "on it")
    assert "on it" in said
    until(lambda: cloud.meter.billing() == [])
    (machine,) = cloud.machines
    assert machine.name == "jl-run"


def test_everything_that_can_be_looked_at(jl: CommandLine) -> None:
    assert jl("status", "--json")["balance"] == {"balance": 100.0, "grants": 0.0}
    assert {row["region"] for row in jl("gpus", "--json")} == {"IN1", "IN2", "EU1"}
    assert len(jl("resources", "--json")["cpu_meta"]["combinations"]) == 4
    assert len(jl("templates", "--json")) == 10
    for table, shown in (("gpus", "1.89"), ("cpus", "64GB"), ("templates", "axolotl")):
        assert shown in jl(table)


def test_a_virtual_machine_and_a_filesystem(jl: CommandLine, cloud: Cloud) -> None:
    storage = ("--name", "models", "--storage", "50", "--region", "IN2")
    made = jl("filesystem", "create", *storage, "--yes", "--json")
    machine = jl("create", "--gpu", "L4", "--vm", "--fs-id", str(made["fs_id"]), "--yes", "--json")
    number = str(machine["machine_id"])
    assert machine["ssh_command"].endswith("ubuntu@127.0.0.1") or cloud.isolation != "namespace"
    until(lambda: cloud.machine(int(number)).listening)
    assert jl("exec", number, "--json", "--", "sh", "-c", "cd; pwd")["stdout"] == "/home/ubuntu\n"
    assert jl("filesystem", "list", "--json")[0]["fs_name"] == "models"
    cpu = jl("create", "--vm", "--cpu", "--yes", "--json")
    assert (cpu["gpu_type"], cpu["cores"]) == ("CPU", 2)
