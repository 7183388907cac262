"""A job that trains with `ddp_trainer.py`, under the very launch line that axolotl gets."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path, PurePosixPath

import pytest

from backends.job import Job, LocalFile, LocalTree
from backends.lease import Keep, Phase
from backends.offer import Offer
from backends.plan import MetricPattern, Plan, Step
from backends.protocol import silent
from backends.testing.bench import Bench
from launcher import commands
from launcher.commands import Target

TRAINER = Path(__file__).with_name("ddp_trainer.py")
STEPS = 20


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
