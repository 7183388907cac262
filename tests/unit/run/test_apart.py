"""Data and model are got ready without a GPU, where a job of its own can do that."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from toy_run import run_spec

from backends.offer import Money, Offer
from backends.plan import RunPath
from launcher.commands import Target
from launcher.run import build
from launcher.run.adding import hardware_of
from launcher.run.spec import RunSpec, Steps, offer_from_json, offer_to_json

PLAIN = Offer("modal", None, 0, Money(Decimal("0.3")))
GPU = Offer("modal", "H100", 1, Money(Decimal(5)), plain=PLAIN)
CONFIG = {"adapter": "lora", "dataset_prepared_path": "data/prepared"}


def settled(**changes: object) -> RunSpec:
    return replace(run_spec(), target=Target("cuda", 1), config=CONFIG, **changes)  # type: ignore[arg-type]


def test_where_each_job_is_rented_for_by_itself() -> None:
    assert build.prepares_apart(settled(), GPU)
    assert not build.prepares_apart(settled(), replace(GPU, plain=None))
    assert not build.prepares_apart(replace(settled(), target=Target("cpu")), GPU)
    assert not build.prepares_apart(settled(steps=Steps(preprocess=False)), GPU)


@pytest.mark.parametrize("key", ["skip_prepare_dataset", "pretraining_dataset", "streaming"])
def test_what_is_not_preprocessed_is_not_waited_for(key: str) -> None:
    assert not build.prepares_apart(replace(settled(), config={**CONFIG, key: True}), GPU)


def test_merging_and_preparing_need_no_gpu_and_the_rest_does() -> None:
    spec = settled()
    assert hardware_of(build.prepare(spec), GPU) is PLAIN
    assert hardware_of(build.merge(spec, 1), GPU) is PLAIN
    assert hardware_of(build.train(spec, prepared=1), GPU) is GPU
    assert hardware_of(build.evaluate(spec, 1), GPU) is GPU
    assert hardware_of(build.merge(spec, 1), PLAIN) is PLAIN


def test_an_offer_with_another_inside_it_is_kept() -> None:
    assert offer_from_json(offer_to_json(GPU)) == GPU


def test_a_training_is_left_out_when_its_data_are_not_ready_but_not_for_what_it_resumes() -> None:
    job = build.train(settled(), resume=(1, "output/checkpoint-7"), prepared=2)
    assert job.after_success
    assert [(one.job_id, one.anyhow) for one in job.attach] == [(1, True), (2, False)]
    assert not build.train(settled()).after_success


def test_the_prepared_data_are_brought_to_where_the_job_would_have_made_them(
    tmp_path: Path,
) -> None:
    home = tmp_path / "run"
    there = home / build.PREPARED / "bundle" / "data" / "prepared" / "a1b2"
    there.mkdir(parents=True)
    (there / "data.arrow").write_text("rows")
    for path in (there / "data.arrow", there, there.parent):
        path.chmod(0o555 if path.is_dir() else 0o444)
    (home / "bundle").mkdir()
    step = build.train(settled(), prepared=2).plan.steps[0]
    argv = [str(home / part.path) if isinstance(part, RunPath) else str(part) for part in step.argv]
    subprocess.run(argv, cwd=home / step.cwd, check=True)
    brought = home / "bundle" / "data" / "prepared"
    assert (brought / "a1b2" / "data.arrow").read_text() == "rows"
    assert brought.stat().st_mode & 0o200
    (brought / "a1b2" / "data.arrow").write_text("ro")  # half of it, before a preemption
    subprocess.run(argv, cwd=home / step.cwd, check=True)
    assert (brought / "a1b2" / "data.arrow").read_text() == "rows"
    assert step.skip_if is None
