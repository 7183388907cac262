"""Two containers of a cluster train one model: a small real trainer under axolotl's launch line.

Axolotl itself needs GPUs for it; here the GPUs are only asked for, and billed.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from ddp_job import STEPS, TRAINER, trained
from modal_rig import modal
from rented_story import managed_python

from backends.offer import Need
from backends.testing.bench import Bench
from launcher.commands import Target

pytestmark = [pytest.mark.axolotl, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder, state = tmp_path_factory.mktemp("cloud"), tmp_path_factory.mktemp("state")
    with modal(folder, state, programs=managed_python().parent) as rig:
        rig.patience = timedelta(minutes=5)
        made = Bench(rig, tmp_path_factory.mktemp("here"))
        yield made
        made.clean()
        assert rig.provider.billing() == []


def alone(folder: Path) -> list[float]:
    """The losses of one process, without a launcher or a provider."""
    argv = [str(managed_python()), str(TRAINER), "--steps", str(STEPS), "--batch", "16"]
    env = {**os.environ, "FTLAUNCH_RUN_DIR": str(folder), "OMP_NUM_THREADS": "1"}
    subprocess.run(argv, env=env, check=True, timeout=300)
    found: list[float] = json.loads((folder / "output" / "losses.json").read_bytes())
    return found


def test_two_nodes_learn_what_one_does_from_the_same_batches(bench: Bench, tmp_path: Path) -> None:
    (offer,) = bench.backend.offers(Need(gpus=(("H100", 8),), nodes=2), live=True)
    two, log = trained(bench, offer, Target("cuda", gpus=1, nodes=2))
    assert "[node0] process 0 of 2" in log
    assert "[node1] process 1 of 2" in log
    assert "[node1] loss" not in log
    one = alone(tmp_path)
    assert len(one) == len(two) == STEPS
    assert one[-1] < one[0] / 2, "it learns"
    assert two == pytest.approx(one, abs=1e-3)
