"""A run of two jobs whose steps are a few lines of Python: everything real but the training."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from backends import LocalFile, MetricPattern, Offer, Plan, RunPath, Step, StopRecipe
from backends.job import Environment
from backends.offer import FREE
from backends.plan import CheckpointRule
from launcher.commands import Target
from launcher.on_finish import OnFinish
from launcher.run import inventory, spec
from launcher.run.adding import add_job
from launcher.run.spec import AttachJob, JobSpec, RunSpec, Steps
from launcher.store import RunRecord, Store, open_store

WORK = """
import os, sys, time
run, name, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
os.makedirs(run + "/output", exist_ok=True)
with open(run + "/output/starts-" + name, "a") as file:
    file.write("started\\n")
for number in range(20):
    print("line", number, "of", name, flush=True)
    time.sleep(seconds / 20)
with open(run + "/output/" + name, "w") as file:
    file.write("made by " + name)
"""


@dataclass(frozen=True)
class Toy:
    """A user's state directory with one run in it."""

    state: Path
    out: Path
    store: Store
    run: RunRecord

    @property
    def environ(self) -> dict[str, str]:
        return {**os.environ, "FTLAUNCH_STATE_DIR": str(self.state)}


def job(
    kind: str,
    *,
    seconds: float,
    attach: tuple[AttachJob, ...] = (),
    secrets: tuple[str, ...] = (),
    fails: bool = False,
) -> JobSpec:
    """A job that takes `seconds` and makes `output/KIND`; in the end, it `fails`."""
    script = WORK + ("sys.exit(3)\n" if fails else "")
    argv = (sys.executable, "-c", script, RunPath(""), kind, str(seconds))
    return JobSpec(
        kind=kind,
        plan=Plan(
            steps=(Step(kind, argv),),
            stop=StopRecipe(),
            checkpoint=CheckpointRule("output/checkpoint-*", (("last",),)),
            metrics=(MetricPattern(r"^line (?P<step>\d+)"),),
            disk_reserve_bytes=1 << 16,
        ),
        attach=attach,
        secrets=secrets,
        after_success=bool(attach),
    )


def run_spec() -> RunSpec:
    """The least that a run's specification may be."""
    nothing: tuple[LocalFile, ...] = ()
    return RunSpec(
        recipe="toy",
        config={"adapter": "lora"},
        workdir=PurePosixPath("bundle"),
        small=nothing,
        data=nothing,
        caches=(),
        target=Target("cpu"),
        environment=Environment(),
        env={},
        secrets=(),
        steps=Steps(),
    )


@contextmanager
def toy(
    folder: Path,
    *,
    seconds: float = 1.0,
    secrets: tuple[str, ...] = (),
    on_finish: OnFinish | None = None,
    backend: str = "local",
    offer: Offer | None = None,
    run_id: str = "toy1",
    fails: str = "",
    merge_secrets: tuple[str, ...] = (),
    prepared: bool = False,
    merge: bool = True,
) -> Iterator[Toy]:
    """A run of a training and a merge, recorded and not yet begun.

    fails    the kind of the job that fails
    backend  where its jobs go; another than this machine needs an `offer` of its own
    merge    False: the training is all there is
    prepared a job of its own comes first, whose files the training works on and nobody pulls
    """
    state = folder / "state"
    store = open_store(state)
    out = folder / "out"
    run = store.add_run(
        run_id=run_id,
        name="toy",
        recipe="toy",
        backend=backend,
        output_dir=out,
        spec=spec.run_to_json(run_spec()),
    )
    offer = offer or Offer(backend=backend, gpu=None, count=0, price=FREE)
    before: tuple[AttachJob, ...] = ()
    if prepared:
        ready = dataclasses.replace(job("preprocess", seconds=seconds), pull=())
        before = (AttachJob(add_job(store, run, ready, offer), PurePosixPath("inputs/prepared")),)
    train = job("train", seconds=seconds, attach=before, secrets=secrets, fails=fails == "train")
    first = add_job(store, run, dataclasses.replace(train, on_finish=on_finish), offer)
    if merge:
        attach = (AttachJob(first, PurePosixPath("inputs/train")),)
        last = job(
            "merge", seconds=seconds, attach=attach, secrets=merge_secrets, fails=fails == "merge"
        )
        add_job(store, run, dataclasses.replace(last, on_finish=on_finish), offer)
    yield Toy(state, out, store, run)
    store.close()


def whole(made: Toy, kind: str) -> bool:
    """Whether what a job made is here, as its manifest says."""
    (job,) = [job for job in made.store.jobs(made.run.id) if job.kind == kind]
    here = made.out / "output" / kind
    manifest = inventory.inventory_here(made.run, job)
    if manifest is None or not here.is_file():
        return False
    wanted = {str(entry.path): entry.sha256 for entry in manifest}
    return wanted.get(f"output/{kind}") == hashlib.sha256(here.read_bytes()).hexdigest()
