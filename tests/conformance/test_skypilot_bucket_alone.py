"""What a machine does for a job that lies in a bucket, without SkyPilot: it gets a script."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from bucket_rig import Bucket, bucket
from step_trainer import STEPS

from backends import rundir
from backends.errors import Lost
from backends.job import Attached, Files, Job, LocalFile, LocalTree, Secrets
from backends.lease import Signal
from backends.plan import CheckpointRule, Newest, Plan, RunPath, Step, StopRecipe
from backends.protocol import silent
from backends.skypilot.bucket import HALF_NAME
from backends.skypilot.shipping import script
from backends.skypilot.software import unseen

pytestmark = [
    pytest.mark.timeout(300),
    # What the libraries of buckets warn each other of is their own affair.
    *(pytest.mark.filterwarnings(f"ignore::{kind}") for kind in ("DeprecationWarning", "Warning")),
]
CANARY = "canary-in-a-coal-mine"
PROGRAMS = Path(sys.executable).parent
ENDED = ("succeeded", "failed", "stopped", "expired")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bucket]:
    with bucket(tmp_path_factory.mktemp("bucket")) as made:
        yield made


class Machine:
    """One that SkyPilot made for the job: it has a HOME, and runs the script."""

    def __init__(
        self, lab: Bucket, home: Path, text: str, half: str, programs: Path = PROGRAMS
    ) -> None:
        home.mkdir()
        lab.lay_out(home)
        self.home = home
        env = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
        env |= {"HOME": str(home), HALF_NAME: half, "FTLAUNCH_HEARTBEAT_S": "0.2"}
        env["PATH"] = f"{programs}:{env['PATH']}"
        self._log = (home / "log").open("wb")
        self.process = subprocess.Popen(
            ["bash", "-c", text],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def wait(self) -> int:
        code = self.process.wait(240)
        self._log.close()
        return code

    @property
    def said(self) -> str:
        return (self.home / "log").read_text()

    def lose(self) -> None:
        """Everything on it ends at once, and its disk is gone."""
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                if f"HOME={self.home}\0" in path.read_text("utf-8", "replace"):
                    os.kill(int(path.parent.name), signal.SIGKILL)
            except OSError:
                continue
        self.wait()
        shutil.rmtree(self.home)


def file(folder: Path, name: str, content: bytes) -> LocalFile:
    path = folder / name
    path.write_bytes(content)
    at = PurePosixPath("bundle", name)
    return LocalFile(path, at, len(content), hashlib.sha256(content).hexdigest())


def job(folder: Path, name: str, steps: int, *more: Any) -> Job:
    argv = (sys.executable, "-c", STEPS, str(steps))
    plan = Plan(
        (Step("only", argv, again=(Newest(),)),),
        stop=StopRecipe(("output/save-now",), wait=timedelta(seconds=5), steps=("only",)),
        checkpoint=CheckpointRule("output/checkpoint-*", (("weights",), ("last",))),
        disk_reserve_bytes=4096,
    )
    inputs = (LocalTree((file(folder, "data.jsonl", b"rows of data"),)), *more)
    return Job(name, plan, inputs, secrets=Secrets({"HF_TOKEN": CANARY}))


def until(look: Any, machine: Machine) -> None:
    end = time.monotonic() + 60
    while not look():
        assert time.monotonic() < end, machine.said
        time.sleep(0.2)


def test_it_goes_on_from_the_newest_checkpoint_on_another_machine(
    lab: Bucket, tmp_path: Path
) -> None:
    store = lab.store()
    one = job(tmp_path, "toy", 60)
    half = store.lay(unseen(one, "skypilot"), told=silent)
    text = script(store.address, "toy")
    assert CANARY not in text + half
    first = Machine(lab, tmp_path / "one", text, half)
    whole = "jobs/toy/whole/output/checkpoint-"
    until(lambda: sum(name.startswith(whole) for name in lab.contents()) >= 2, first)
    log = b"".join(store.read("toy", rundir.log_segment("only", 1), offset=0, follow=False))
    first.lose()
    # Torn: its files are there in part, and no list says that they are all.
    torn = (
        max(
            int(name.split("checkpoint-")[1].split("/")[0])
            for name in lab.contents()
            if "run/output/checkpoint-" in name
        )
        + 5
    )
    store._objects.write(f"jobs/toy/run/output/checkpoint-{torn}/weights", b"half")
    second = Machine(lab, tmp_path / "two", text, half)
    assert second.wait() == 0, second.said
    state = store.status("toy").state
    assert state is not None
    assert (state["phase"], state["attempt"]) == ("succeeded", 2)
    assert b"".join(
        store.read("toy", rundir.log_segment("only", 1), offset=0, follow=False)
    ).startswith(log)
    texts = []
    for path in sorted(store.listing("toy")):
        if path.parts[0] == "logs":
            lines = b"".join(store.read("toy", path, offset=0, follow=False)).splitlines()
            texts += [found for line in lines if (found := rundir.parse_line(line))]
    assert [line.seq for line in texts] == list(range(1, len(texts) + 1))
    said = [line.text for line in texts]
    assert {f"step {number}" for number in range(1, 61)} <= set(said)
    (went_on,) = [text for text in said if "goes on from" in text]
    assert str(torn) not in went_on
    everything = lab.contents()
    assert not [name for name, content in everything.items() if CANARY.encode() in content]
    assert "jobs/toy/half" not in everything
    into = tmp_path / "into"
    fresh = lab.store()
    paths = [PurePosixPath("output/model"), PurePosixPath("bundle/data.jsonl")]
    fresh.fetch("toy", paths, into)
    assert (into / "output/model").read_text() == "trained"
    assert (into / "bundle/data.jsonl").read_text() == "rows of data"
    fresh._objects.write("jobs/toy/run/output/model", b"changed")
    with pytest.raises(Lost, match="not what its manifest says"):
        fresh.fetch("toy", paths[:1], tmp_path / "other")
    before = len(lab.contents())
    fresh.lay(unseen(dataclasses.replace(one, name="second"), "skypilot"), told=silent)
    store.remove("toy")
    assert b"rows of data" in lab.contents().values()
    store.remove("second")
    assert lab.contents() == {}, before


def test_a_wish_to_stop_is_heard_and_a_taken_machine_is_no_verdict(
    lab: Bucket, tmp_path: Path
) -> None:
    store = lab.store()
    one = job(tmp_path, "long", 100_000)
    half = store.lay(unseen(one, "skypilot"), told=silent)
    text = script(store.address, "long")
    first = Machine(lab, tmp_path / "one", text, half)
    until(lambda: (store.status("long").state or {}).get("checkpoints"), first)
    first.process.send_signal(signal.SIGTERM)
    home = first.home / "ftlaunch/runs/long/state.json"
    until(lambda: json.loads(home.read_bytes())["phase"] == "stopped", first)
    time.sleep(3)
    assert store.status("long").state["phase"] not in ENDED  # type: ignore[index]
    assert first.process.poll() is None, "an exit would be taken for a failure"
    first.lose()
    second = Machine(lab, tmp_path / "two", text, half)
    until(lambda: store.status("long").state["attempt"] == 2, second)  # type: ignore[index]
    store.signal("long", Signal.STOP, timedelta(seconds=20))
    assert second.wait() == 130, second.said
    state = store.status("long").state
    assert state is not None
    assert state["phase"] == "stopped"
    store.remove("long")
    assert lab.contents() == {}


def test_a_later_job_sees_an_earlier_one(lab: Bucket, tmp_path: Path) -> None:
    store = lab.store()
    one = job(tmp_path, "first", 10)
    machine = Machine(
        lab,
        tmp_path / "one",
        script(store.address, "first"),
        store.lay(unseen(one, "skypilot"), told=silent),
    )
    assert machine.wait() == 0, machine.said
    sees = Attached(Files("skypilot", "first", {"job": "first"}), PurePosixPath("inputs/first"))
    look = "import os, sys; print(open(sys.argv[1]).read(), os.environ['HF_TOKEN'][::-1])"
    argv = (sys.executable, "-c", look, RunPath("inputs/first/output/model"))
    plan = Plan((Step("only", argv),), disk_reserve_bytes=4096)
    two = Job("second", plan, (sees,), secrets=Secrets({"HF_TOKEN": CANARY}))
    half = store.lay(unseen(two, "skypilot"), told=silent)
    later = Machine(lab, tmp_path / "two", script(store.address, "second"), half)
    assert later.wait() == 0, later.said
    log = b"".join(store.read("second", rundir.log_segment("only", 1), offset=0, follow=False))
    assert f"trained {CANARY[::-1]}".encode() in log
    assert not [path for path in store.listing("second") if path.parts[0] == "inputs"]
    store.remove("first")
    store.remove("second")


@pytest.mark.network
def test_a_machine_without_the_buckets_library_makes_it(
    lab: Bucket, tmp_path: Path, missing: Any
) -> None:
    """It has a Python and nothing else that is ours."""
    plain = tmp_path / "programs"
    plain.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "venv", str(tmp_path / "plain")], capture_output=True, check=False
    )
    if done.returncode:
        missing("a venv", "the machine's Python cannot make one")
    (plain / "python3").symlink_to(tmp_path / "plain" / "bin" / "python")
    store = lab.store()
    one = Job("bare", Plan((Step("only", ("echo", "hello")),), disk_reserve_bytes=4096))
    half = store.lay(unseen(one, "skypilot"), told=silent)
    machine = Machine(lab, tmp_path / "one", script(store.address, "bare"), half, plain)
    assert machine.wait() == 0, machine.said
    assert (machine.home / "ftlaunch" / "envs").is_dir()
    log = b"".join(store.read("bare", rundir.log_segment("only", 1), offset=0, follow=False))
    assert b"hello" in log
    store.remove("bare")
