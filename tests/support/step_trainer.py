"""A job of steps that train nothing: another attempt goes on from its newest checkpoint."""

from __future__ import annotations

from datetime import timedelta

from backends.job import Job
from backends.plan import CheckpointRule, Newest, StopRecipe
from backends.testing.bench import Bench

STEPS = """
import os, sys, time
begin = int(sys.argv[2].rpartition("-")[2]) if len(sys.argv) > 2 else 0
os.makedirs("output", exist_ok=True)
for step in range(begin + 1, int(sys.argv[1]) + 1):
    print("step", step, flush=True)
    time.sleep(0.1)
    if step % 5 == 0 or os.path.exists("output/save-now"):
        folder = "output/checkpoint-%d" % step
        os.makedirs(folder)
        for name in ("weights", "last"):
            with open(folder + "/" + name, "w") as file:
                file.write(str(step))
        if os.path.exists("output/save-now"):
            os.unlink("output/save-now")
with open("output/model", "w") as file:
    file.write("trained")
"""


def trainer(bench: Bench, steps: int) -> Job:
    """Steps of a tenth of a second, a checkpoint every five of them."""
    return bench.job(
        STEPS,
        str(steps),
        plan={
            "checkpoint": CheckpointRule("output/checkpoint-*", (("weights",), ("last",))),
            "stop": StopRecipe(("output/save-now",), wait=timedelta(seconds=5), steps=("only",)),
            "disk_reserve_bytes": 4096,
        },
        step={"again": (Newest(),)},
    )
