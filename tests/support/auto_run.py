"""A training that may go to several places, in order; what trains is a few lines of Python."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from toy_run import Toy, run_spec

from backends.job import Environment
from backends.offer import Need, Offer
from launcher import environment
from launcher.commands import Target
from launcher.run import adding, spec
from launcher.run.spec import Elsewhere, RunSpec, Steps
from launcher.run.staging import stage
from launcher.store import open_store

TRAINER = """#!{python}
import os, sys, time
for step in range(9):
    print(f"{{step * 11:3d}}%|     | {{step}}/8 [00:00<00:00, 9.00it/s]", flush=True)
    if step:
        print({{"loss": "1.5", "memory/max_allocated (GiB)": str(3 + step / 4)}}, flush=True)
    time.sleep(0.1)
out = os.path.join(os.path.dirname(os.getcwd()), "output")
os.makedirs(out, exist_ok=True)
with open(os.path.join(out, "starts"), "a") as file:
    file.write("started\\n")
with open(os.path.join(out, "adapter_model.safetensors"), "w") as file:
    file.write(" ".join(sys.argv[1:]))
"""


def programs(folder: Path) -> Path:
    """A folder with an `accelerate` that trains nothing, and says with which arguments."""
    folder.mkdir()
    script = folder / "accelerate"
    script.write_text(TRAINER.format(python=sys.executable))
    script.chmod(0o755)
    return folder


def no_software(patch: pytest.MonkeyPatch) -> None:
    """Machines have all they need: nothing of axolotl's is installed on them."""
    patch.setattr(environment, "for_far", lambda *_, **__: Environment())


@contextmanager
def auto(folder: Path, places: Sequence[tuple[str, Offer]], **changes: Any) -> Iterator[Toy]:
    """A run recorded and not yet begun, at the first of the places."""
    (backend, offer), *others = places
    store = open_store(folder / "state")
    target = Target("cuda", gpus=offer.count) if offer.gpu else Target("cpu")
    steps = changes.pop("steps", Steps(preprocess=False, merge=False))
    settled: RunSpec = replace(
        run_spec(),
        target=target,
        steps=steps,
        small=(stage(folder / "staged", PurePosixPath("bundle/ftlaunch.yml"), b"{}"),),
        config={
            "adapter": "lora",
            "base_model": "org/model",
            "dataset_prepared_path": "prepared",
            "micro_batch_size": 1,
        },
        need=Need(cpu_only=offer.gpu is None),
        elsewhere=tuple(Elsewhere(*one) for one in others),
        **changes,
    )
    run = store.add_run(
        run_id="auto1",
        name="auto",
        recipe="toy",
        backend=backend,
        output_dir=folder / "out",
        spec=spec.run_to_json(settled),
    )
    adding.add_jobs(store, run, settled, offer)
    yield Toy(folder / "state", folder / "out", store, run)
    store.close()


def starts(made: Toy) -> int:
    """How often the training has begun, by what came home."""
    return (made.out / "output" / "starts").read_text().count("started")


def refusals(made: Toy) -> list[tuple[str, str]]:
    """Which offers were refused, and why, as the run's events have it."""
    events = [event for event in made.store.events(made.run.id) if event.kind == "elsewhere"]
    return [(event.data["refused"]["backend"], event.data["why"]) for event in events]
