"""A training with real axolotl whose node is taken away: SkyPilot makes another, and it goes on."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bucket_rig import URL, Bucket, bucket
from clouds.skypilot.rig import Sky
from desks import Desk
from rented_story import managed_python

pytestmark = [pytest.mark.axolotl, pytest.mark.timeout(2700), pytest.mark.slurm]

RUN, STEPS = "taken", 120
SETS = {"max_steps": STEPS, "save_steps": 5, "test_datasets": "null", "eval_steps": "null"}


@pytest.fixture
def sky(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sky]:
    # Below this folder SkyPilot keeps sockets: a worker's folder for a test has too long a name.
    with Sky(tmp_path_factory.mktemp("sky"), software=managed_python().parent) as made:
        yield made


@pytest.fixture
def desk(sky: Sky, tmp_path: Path) -> Iterator[Desk]:
    (tmp_path / "here").mkdir()
    made = Desk(tmp_path / "here", tmp_path / "state", sky.environ)
    yield made
    made.run("stop", "--now", RUN, timeout=300)


def state(sky: Sky) -> dict[str, Any]:
    """The training's own, on the disk that the nodes share."""
    found = list((sky.home.slurm / "ftlaunch" / "runs").glob(f"*{RUN}-train-*/state.json"))
    return json.loads(found[0].read_bytes()) if found else {}


def state_in(lab: Bucket) -> dict[str, Any]:
    """The training's own, in the bucket."""
    jobs = [name for name in lab.contents() if name.endswith("/run/state.json")]
    found = [name.split("/")[1] for name in jobs if f"{RUN}-train-" in name]
    return dict(lab.store().status(found[0]).state or {}) if found else {}


def until_it_has_a_checkpoint(look: Callable[[], dict[str, Any]], desk: Desk) -> None:
    end = time.monotonic() + 1200
    while not any(row["complete"] for row in look().get("checkpoints", ())):
        assert time.monotonic() < end, desk.run("logs", RUN).said
        time.sleep(1)


def assert_went_on(sky: Sky, desk: Desk) -> None:
    """Its node is taken away, and it ends with all its steps and results."""
    (allocation,) = sky.allocations()
    sky.slurm("scancel", "--name", allocation)
    waited = desk.run("wait", RUN, timeout=1200)
    assert waited.code == 0, waited.said + desk.run("logs", RUN).out
    log = desk.run("logs", RUN, "--step", "train").out
    assert "goes on from output/checkpoint-" in log
    out = desk.here / "runs" / RUN / "output"
    assert f"{STEPS}/{STEPS}" in log
    assert (out / "adapter_model.safetensors").exists()
    assert (out / "merged" / "model.safetensors").exists()
    assert sky.still_held() == []
    facts = desk.run("inspect", RUN, "--json").json()
    assert facts["cost"], facts


@pytest.mark.seldom
def test_the_same_kept_in_a_bucket(sky: Sky, tmp_path: Path) -> None:
    sets = [f"--set={key}={value}" for key, value in SETS.items()]
    where = ("-b", "skypilot:slurm/tiny", "-g", "cpu", "--recover", "--store", URL)
    (tmp_path / "here").mkdir()
    with bucket(tmp_path / "lab") as lab:
        lab.lay_out(sky.home.slurm)
        desk = Desk(tmp_path / "here", tmp_path / "state", {**sky.environ, **lab.environ})
        try:
            begun = desk.run("train", "tiny", "-n", RUN, *where, "-yd", *sets, timeout=600)
            assert begun.code == 0, begun.said
            until_it_has_a_checkpoint(lambda: state_in(lab), desk)
            assert_went_on(sky, desk)
            assert lab.contents() == {}
        finally:
            desk.run("stop", "--now", RUN, timeout=300)


@pytest.mark.seldom
def test_a_training_whose_node_is_taken_away_ends_with_all_its_steps(sky: Sky, desk: Desk) -> None:
    sets = [f"--set={key}={value}" for key, value in SETS.items()]
    where = ("-b", "skypilot:slurm/tiny", "-g", "cpu", "--recover")
    planned = desk.run("train", "tiny", *where, "--dry-run", *sets)
    assert "goes on from its newest checkpoint" in planned.out, planned.said
    begun = desk.run("train", "tiny", "-n", RUN, *where, "-yd", *sets, timeout=600)
    assert begun.code == 0, begun.said
    until_it_has_a_checkpoint(lambda: state(sky), desk)
    assert_went_on(sky, desk)
