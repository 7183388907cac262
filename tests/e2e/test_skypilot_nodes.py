"""Two nodes train one model: a small real trainer under the very launch line that axolotl gets.

Axolotl itself needs GPUs for it, and is tried on them by `make live-skypilot`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path, PurePosixPath

import pytest
from rented_story import managed_python
from sky_rig import OnSky, skypilot

from backends.job import Job, LocalFile, LocalTree
from backends.lease import Keep, Phase
from backends.offer import Need, Offer
from backends.plan import MetricPattern, Plan, Step
from backends.protocol import silent
from backends.testing.bench import Bench
from launcher import commands
from launcher.commands import Target

pytestmark = [
    pytest.mark.axolotl,
    pytest.mark.slurm,
    pytest.mark.timeout(2400),
    # What SkyPilot is warned of by the libraries it stands on is its own affair.
    *(pytest.mark.filterwarnings(f"ignore::{kind}") for kind in ("DeprecationWarning", "Warning")),
]

TRAINER = Path(__file__).parents[1] / "support" / "ddp_trainer.py"
STEPS = 20
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
    assert rig.provider.allocations() == []


def training(bench: Bench, target: Target, *more: str) -> Job:
    """The launch line comes from the function that spells axolotl's."""
    content = TRAINER.read_bytes()
    at = PurePosixPath("bundle/ddp_trainer.py")
    file = LocalFile(TRAINER, at, len(content), hashlib.sha256(content).hexdigest())
    asked = ("ddp_trainer", "--steps", str(STEPS), "--batch", "16", *more)
    step = Step("train", (*commands.launch(target), *asked), cwd="bundle")
    plan = Plan(steps=(step,), metrics=(MetricPattern(r"^loss: (?P<loss>[0-9.]+)"),))
    # OMP and gloo find their own way on a machine of several names.
    env = {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    inputs = (LocalTree((file,)),)
    return Job(bench.new_name(), plan, inputs=inputs, nodes=target.nodes, env=env)


def trained(bench: Bench, offer: Offer, target: Target) -> tuple[list[float], str]:
    """The losses, and the log."""
    job = training(bench, target)
    lease = bench.backend.launch(job, offer, on_lease=bench.remember, progress=silent)
    seen = bench.wait(lease)
    log = bench.content(lease.files, "logs/train/000001.log").decode()
    assert seen.phase is Phase.SUCCEEDED, f"{seen.reason}: {log[-4000:]}"
    assert seen.state is not None
    losses = json.loads(bench.content(lease.files, "output/losses.json"))
    assert seen.state["last_metrics"]["loss"] == pytest.approx(losses[-1], abs=1e-6)
    bench.backend.release(lease, keep=Keep.NOTHING)
    return losses, log


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
