"""`-b auto` and `calibrate` with real axolotl: the real SDKs of two loopback providers at once."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from clouds.jarvis.cloud import Cloud as JarvisCloud
from clouds.modal.cloud import Cloud as ModalCloud
from desks import Desk
from jarvis_axolotl import cloud_with_axolotl, variables
from rented_story import managed_python

pytestmark = [pytest.mark.axolotl, pytest.mark.timeout(900)]

RUN, SHORT_RUN = "auto-both", "calibrated"
# There is no GPU in a loopback machine, whatever it is billed for.
SETS = [f"--set=lora_{name}_kernel=false" for name in ("mlp", "qkv", "o")]
SHORT = ["--set=max_steps=4", "--set=test_datasets=null", "--set=eval_steps=null"]

# Ten steps a second are told in one by axolotl's bar: these take longer.
SLOW = ["--set=gradient_accumulation_steps=16"]

LEASES = """
import json
from pathlib import Path
from backends.registry import load
from launcher import places
print(json.dumps([
    lease.job
    for name in ("jarvis", "modal")
    for lease in load(name, state_dir=places.backends_dir()).leases()
]))
"""


@dataclass(frozen=True)
class World:
    """Two users with an account at both."""

    desk: Desk
    other: Desk
    jarvis: JarvisCloud
    modal: ModalCloud

    def leases(self, desk: Desk) -> list[str]:
        """What both providers still hold for a user, by what ftlaunch asks them."""
        argv = [sys.executable, "-c", LEASES]
        said = subprocess.run(argv, env=desk.environ, capture_output=True, text=True, check=True)
        found: list[str] = json.loads(said.stdout)
        return found

    def assert_at_rest(self, desk: Desk) -> None:
        """No lease is left, and both meters have stopped."""
        assert self.leases(desk) == []
        end = time.monotonic() + 300
        while self.jarvis.meter.billing() or self.modal.billing():
            assert time.monotonic() < end, "something bills"
            time.sleep(0.1)
        assert all(machine.gone is not None for machine in self.jarvis.machines)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Two users are at it, one after the other: what one has measured the other does not know."""
    folder = tmp_path_factory.mktemp("auto")
    python = managed_python()
    path = f"{python.parent}:/usr/local/bin:/usr/bin:/bin"
    with (
        cloud_with_axolotl(folder / "jarvis", python) as jarvis,
        ModalCloud(folder / "modal", image_env={"PATH": path}) as modal,
    ):
        environ = {**modal.environ, **variables(jarvis)}
        made = World(user(folder / "one", environ), user(folder / "other", environ), jarvis, modal)
        yield made
        made.desk.run("stop", "--now", RUN, timeout=120)
        made.other.run("stop", "--now", SHORT_RUN, timeout=120)


def user(folder: Path, environ: dict[str, str]) -> Desk:
    (folder / "here").mkdir(parents=True)
    return Desk(folder / "here", folder / "state", environ)


def test_a_training_goes_on_to_the_next_provider_and_comes_home(world: World) -> None:
    """The best offer's machine is taken away as it starts: it has cost a little by then.

    Only one of them has the kind that is ranked first.
    """
    world.jarvis.fate(taken=True)
    argv = ["train", "tiny", "-n", RUN, "-b", "auto", "-g", "A30,L4", "-y", "--no-merge"]
    trained = world.desk.run(*argv, "--max-cost", "5", *SETS, *SHORT)
    assert trained.code == 0, trained.said + world.desk.run("logs", RUN).out
    world.assert_at_rest(world.desk)

    facts = world.desk.run("inspect", RUN, "--json").json()
    assert (facts["backend"], facts["phase"]) == ("modal", "succeeded")
    refused, taken = facts["offers"][:2]
    assert (refused["state"], refused["backend"], refused["gpu"]) == ("refused", "jarvis", "A30")
    assert refused["why"] == "the machine was taken away while it started"
    assert (taken["state"], taken["backend"], taken["gpu"]) == ("taken", "modal", "L4")
    assert "refused: jarvis, A30 x 1 in IN2: the machine was" in world.desk.run("inspect", RUN).out

    jobs = facts["jobs"]
    assert [(job["kind"], job["backend"], job["phase"]) for job in jobs] == [
        ("train", "jarvis", "failed"),
        ("preprocess", "modal", "succeeded"),
        ("train", "modal", "succeeded"),
    ]
    assert all(job["closed_at"] for job in jobs)
    assert all(job["cost"] for job in jobs), "a place has cost nothing"
    costs = amounts(world.desk)
    assert all(costs)
    assert f"{RUN} has cost {facts['cost']} so far" in trained.out

    assert "verified" in trained.out
    out = world.desk.here / "runs" / RUN / "output"
    assert (out / "adapter_model.safetensors").stat().st_size > 0


def amounts(desk: Desk) -> list[Decimal]:
    """What each job has cost, exactly, as the store has it."""
    store = desk.store()
    found = [job.cost.amount for job in store.jobs(store.run(RUN).id) if job.cost is not None]
    store.close()
    return found


@pytest.mark.seldom
def test_what_a_calibration_measures_the_next_estimate_is_drawn_to(world: World) -> None:
    """A CPU that is billed as an L4 is no L4 to believe in, but its start and its load are."""
    desk = world.other
    estimate = ["estimate", "tiny", "-b", "jarvis", "-g", "L4", "--json", "--no-count"]
    before = hours(desk.run(*estimate, *SETS, *SLOW).json())
    argv = ["calibrate", "tiny", "-n", SHORT_RUN, "-b", "jarvis", "-g", "L4", "-y", *SETS, *SLOW]
    ended = desk.run(*argv)
    assert ended.code == 0, ended.said + desk.run("logs", SHORT_RUN).out
    assert "recorded for L4 x 1, lora: " in ended.out
    world.assert_at_rest(desk)
    (row,) = rows(desk)
    assert (row.backend, row.gpu, row.count, row.method) == ("jarvis", "L4", 1, "lora")
    assert row.step_s > 0
    assert {"start", "load", "train"} <= set(row.seconds)
    assert not (desk.here / "runs" / SHORT_RUN / "output" / "adapter_model.safetensors").exists()
    told = desk.run(*estimate, *SETS, *SLOW).json()
    assert hours(told) != before


def hours(told: Any) -> Any:
    """How long the whole job takes on the one offer, as a range."""
    (quote,) = told["quotes"]
    return quote["hours"]


def rows(desk: Desk) -> list[Any]:
    """What is recorded on that computer."""
    store = desk.store()
    found = list(store.measurements())
    store.close()
    return found
