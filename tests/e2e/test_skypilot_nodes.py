"""Two nodes train one model: a small real trainer under the very launch line that axolotl gets.

Axolotl itself needs GPUs for it, and is tried on them by `make live-skypilot`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta

import pytest
from ddp_job import STEPS, trained, training
from rented_story import managed_python
from sky_rig import OnSky, skypilot

from backends.lease import Phase
from backends.offer import Need
from backends.protocol import silent
from backends.testing.bench import Bench
from launcher.commands import Target

pytestmark = [
    pytest.mark.axolotl,
    pytest.mark.slurm,
    pytest.mark.timeout(2400),
    # What SkyPilot is warned of by the libraries it stands on is its own affair.
    *(pytest.mark.filterwarnings(f"ignore::{kind}") for kind in ("DeprecationWarning", "Warning")),
]

H100 = Need(gpus=(("H100", 1),), cpus=1, memory_gib=1, nodes=2)


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnSky]:
    folder, state = tmp_path_factory.mktemp("sky"), tmp_path_factory.mktemp("state")
    software = managed_python().parent
    with skypilot(
        folder, state, detail="slurm/tiny", clusters={"tiny": 2}, software=software
    ) as made:
        made.patience = timedelta(minutes=5)
        yield made


@pytest.fixture(scope="module")
def bench(rig: OnSky, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    made = Bench(rig, tmp_path_factory.mktemp("here"))
    yield made
    made.clean()
    assert rig.provider.still_held() == []


@pytest.mark.seldom
def test_two_nodes_learn_what_one_does_from_the_same_batches(bench: Bench) -> None:
    (offer,) = bench.backend.offers(H100, live=True)
    assert offer.nodes == 2
    assert offer.price.amount == 5
    two, log = trained(bench, offer, Target("cuda", gpus=1, nodes=2))
    assert "[node0] process 0 of 2" in log
    assert "[node1] process 1 of 2" in log
    assert "[node1] loss" not in log
    one, log = trained(bench, offer.of(1), Target("cuda", gpus=1))
    assert "process 0 of 1" in log
    assert len(one) == len(two) == STEPS
    assert one[-1] < one[0] / 2, "it learns"
    assert two == pytest.approx(one, abs=1e-3)


@pytest.mark.seldom
def test_the_failure_of_a_process_on_one_node_ends_both(bench: Bench) -> None:
    (offer,) = bench.backend.offers(H100, live=True)
    job = training(bench, Target("cuda", gpus=1, nodes=2), "--fails-at", "3")
    lease = bench.backend.launch(job, offer, on_lease=bench.remember, progress=silent)
    seen = bench.wait(lease)
    assert seen.phase is Phase.FAILED, seen
    # Torch lets both fail, and who is heard of first is the machine's affair.
    assert re.match(r"node(0|1 \(.*\)): step train exited with code 1", seen.reason), seen
    assert seen.exit_code == 1, seen
    log = bench.content(lease.files, "logs/train/000001.log").decode()
    assert re.search(r"\[node1\] .*exitcode *: 9", log), log[-4000:]
    assert seen.state is not None
    assert {row["phase"] for row in seen.state["nodes"]} == {"failed"}
