"""What axolotl itself says of a recipe, here, as if the GPU it is meant for were in this machine.

Its own validation and its own `preprocess --debug` run in the managed environment. That takes some
twenty seconds, most of it imports; an answer is kept, and asked for again only when what it follows
from has changed: the data, the template, the tokenizer, or a key of the config that could matter.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from backends.errors import Refused
from backends.protocol import Progress, silent
from launcher import bundle as bundling
from launcher import environment, gpus
from launcher.deep import memory
from launcher.derive import derive
from launcher.environment import uvtool
from launcher.recipe import Recipe

TIMEOUT_S = 3600
"""A million rows are tokenised in minutes on two cores."""

_WORKER = Path(__file__).resolve().parent.parent / "workers" / "look_deep.py"

_LAST_LINES = 5


@dataclass(frozen=True)
class Rows:
    """What becomes of the rows of one split.

    limit       tokens that a row may have
    strategy    what happens to a longer one: drop, truncate or raise
    rows        before anything is dropped
    tokens, trained, longest    of what is left; trained: tokens that are trained on
    long, short, nothing        rows above the limit; below axolotl's least; of what is left, those
                                that have nothing to train on
    """

    limit: int
    strategy: str
    rows: int
    left: int
    tokens: int
    trained: int
    longest: int
    long: int
    short: int
    nothing: int


@dataclass(frozen=True)
class Deep:
    """axolotl's own word.

    target    what was pretended, for people
    refused   (key, sentence) of its validation
    failed    why the data could not be prepared; empty when they could
    datasets  the training's rows, then the tests'; empty where axolotl prepares none beforehand
    samples   a few rows as (trained on, text) in order
    """

    target: str
    refused: tuple[tuple[str, str], ...]
    failed: str
    datasets: tuple[Rows, ...]
    samples: tuple[tuple[tuple[bool, str], ...], ...]


def look(recipe: Recipe, gpu: str | None, count: int = 1, *, progress: Progress = silent) -> Deep:
    """Ask axolotl about a recipe that is without fault by our own checks.

    gpu    the kind to pretend; None for a machine without one
    count  how many of them

    Raises Refused: no environment, a GPU whose generation is not known, a worker that fails.
    """
    capability = None if gpu is None else gpus.capability(gpu)
    if gpu is not None and capability is None:
        raise Refused(
            f"what {gpu} can do is not known here, so it cannot be pretended",
            hint="name another with -g, or leave --deep out",
        )
    bundle = bundling.gather(recipe)
    config, _ = derive(recipe.config, workdir=PurePosixPath("bundle"), cpu=gpu is None)
    config["push_dataset_to_hub"] = None  # looking at data sends them nowhere
    prefix = environment.ensure(_spec(config), progress=progress)
    model = recipe.launch.models.get(str(config.get("base_model")))
    if model is not None:
        from launcher import models

        config["base_model"] = str(models.fetch(model, prefix, progress=progress))
    said = "a machine without a GPU"
    if gpu is not None and capability is not None:
        said = f"{gpu} (compute capability {gpus.spelled(capability)})"
    question = memory.Question(prefix.name, _WORKER, config, capability, count, bundle)
    verdict, rows = memory.recall(question)
    if verdict is None or (rows is None and not verdict["refused"]):
        progress("asking axolotl: some twenty seconds, and longer for much data")
        verdict = _asked(recipe, question, prefix, with_rows=rows is None)
        rows = verdict if rows is None else rows
        memory.keep(question, verdict, rows)
    return _told(said, verdict, rows or verdict)


def _spec(config: dict[str, Any]) -> environment.Spec:
    """The environment that is here already, for choice: only Python and torch on a CPU are used."""
    plain = {key: value for key, value in config.items() if key != "deepspeed"}
    return environment.choose(plain, gpu=bool(environment.detect()))


def _asked(
    recipe: Recipe, question: memory.Question, prefix: Path, *, with_rows: bool
) -> dict[str, Any]:
    """Run the worker in the recipe's folder; everything it writes goes into a folder of ours."""
    folder = environment.cache_dir() / "deep"
    with tempfile.TemporaryDirectory(prefix="work-", dir=memory.made(folder)) as work:
        place = Path(work)
        config = {
            **question.config,
            "output_dir": str(place / "output"),
            "dataset_prepared_path": str(place / "prepared"),
        }
        (place / "config.yml").write_text(yaml.safe_dump(config, sort_keys=False), "utf-8")
        options = {
            "capability": question.capability,
            "gpus": question.count,
            "rows": with_rows,
        }
        argv = [str(environment.python_of(prefix)), str(_WORKER), str(place / "config.yml")]
        argv += [str(place / "answer.json"), json.dumps(options)]
        with (place / "log").open("wb") as log:
            try:
                code = subprocess.run(
                    argv,
                    cwd=recipe.base_dir,
                    env=_surroundings(place, offline=question.bundle.offline),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    timeout=TIMEOUT_S,
                    check=False,
                ).returncode
            except (OSError, subprocess.TimeoutExpired) as error:
                raise Refused(f"axolotl could not be asked: {error}") from error
        if code != 0 or not (place / "answer.json").exists():
            last = (place / "log").read_text("utf-8", "replace").splitlines()[-_LAST_LINES:]
            raise Refused(f"axolotl could not be asked (exit code {code})", hint="\n".join(last))
        answer: dict[str, Any] = json.loads((place / "answer.json").read_text("utf-8"))
        return answer


def _surroundings(place: Path, *, offline: bool) -> dict[str, str]:
    """No GPU, no bytecode beside the user's modules, and nothing told to anybody."""
    own = {
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONDONTWRITEBYTECODE": "1",
        "AXOLOTL_DO_NOT_TRACK": "1",
        "HF_DATASETS_CACHE": str(place / "datasets"),
        "WANDB_MODE": "disabled",
    }
    if offline:
        own["HF_HUB_OFFLINE"] = "1"
    return {**uvtool.surroundings(), "PATH": os.environ.get("PATH", os.defpath), **own}


def _told(target: str, verdict: dict[str, Any], rows: dict[str, Any]) -> Deep:
    return Deep(
        target=target,
        refused=tuple((each["key"], each["says"]) for each in verdict["refused"]),
        failed=rows["failed"],
        datasets=tuple(_rows(each) for each in rows["datasets"] if "after" in each),
        samples=tuple(
            tuple((bool(trained), str(text)) for trained, text in sample)
            for sample in rows["samples"]
        ),
    )


def _rows(each: dict[str, Any]) -> Rows:
    before, after = each["before"], each["after"]
    return Rows(
        limit=each["limit"],
        strategy=each["strategy"],
        rows=before["rows"],
        left=after["rows"],
        tokens=after["tokens"],
        trained=after["trained"],
        longest=after["longest"],
        long=before["long"],
        short=before["short"],
        nothing=after["nothing"],
    )
