"""The benchmark's answers: one JSON object a row, and figures that match what the tables say."""

from __future__ import annotations

import csv
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import estimator_fit as fitting
from benchmarks import estimator_rows as rows
from benchmarks.estimator import DATA, answer
from launcher.estimate.fitted import FITTED, PATH

ROOT = Path(__file__).resolve().parents[3]


def test_each_row_is_answered_in_a_line(tmp_path: Path) -> None:
    table = tmp_path / "rows.csv"
    kept = rows.read(DATA / "memory_dev.csv")[::20]
    with table.open("w", newline="") as out:
        writer = csv.DictWriter(out, list(kept[0]))
        writer.writeheader()
        writer.writerows(kept)
    run = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "estimator.py", "--rows", table, "--json"],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    told = [json.loads(line) for line in run.stdout.splitlines()]
    assert [each["row_id"] for each in told] == [row["row_id"] for row in kept]
    for each in told:
        assert set(each["peak_gib"]) == {"alloc", "reserved", "nvml"}
        low, high = each["peak_gib_80"]["alloc"]
        assert low < each["peak_gib"]["alloc"] < high
        assert isinstance(each["fits"], bool)
        low, high = each["tokens_per_s_per_gpu_80"]
        assert low < each["tokens_per_s_per_gpu"] < high


@pytest.mark.parametrize("name", ["memory_dev.csv", "throughput_dev.csv"])
def test_every_row_of_ours_is_answered(name: str) -> None:
    for row in rows.read(DATA / name):
        assert "error" not in answer(row)


def test_no_measured_value_is_looked_at() -> None:
    measured = ("peak_gib_per_gpu", "peak_device_gib", "fits", "tokens_per_s_per_gpu",
                "step_time_s", "total_minutes", "mfu", "reported_tflops", "scored")  # fmt: skip
    for name in ("memory_dev.csv", "throughput_dev.csv"):
        for row in rows.read(DATA / name)[::7]:
            blind = {key: "" if key in measured else value for key, value in row.items()}
            assert answer(blind) == answer(row)


def test_an_unknown_gpu_is_said_in_the_rows_own_line() -> None:
    row = dict(rows.read(DATA / "memory_dev.csv")[0]) | {"gpu": "Abacus 9"}
    assert "Abacus 9" in answer(row)["error"]


def test_an_unknown_model_is_estimated_by_its_size() -> None:
    row = dict(rows.read(DATA / "memory_dev.csv")[0]) | {"model": "no/body-13b", "params_b": "13"}
    assert "only its size is known" in answer(row)["shape"]


def test_a_rate_that_no_gpu_could_reach_is_left_out() -> None:
    found = {row["row_id"]: rows.measured(row) for row in rows.read(DATA / "throughput_dev.csv")}
    assert not fitting.possible(found["t0437"])  # 70B at 3497 tokens/s of one A100
    assert fitting.possible(found["t0441"])


def test_every_constant_says_what_it_means() -> None:
    assert set(FITTED) == set(fitting.MEANING)
    assert json.loads(PATH.read_text())["meaning"] == fitting.MEANING
    assert set(fitting.PRIOR) | set(ENDS) == set(fitting.MEANING)


ENDS = (
    "memory_low", "memory_high", "memory_low_many", "memory_high_many", "speed_low", "speed_high",
)  # fmt: skip


def test_the_memory_of_known_rows_is_met() -> None:
    found = fitting.usable(DATA / "memory_dev.csv")
    told = fitting.score([(row, fitting.error(row, fitting.predicted_memory)) for row in found])
    assert told.median <= 0.07
    assert told.within_15 >= 0.80
    assert told.of_sources <= 0.09


def test_the_peaks_that_we_measured_ourselves_are_met() -> None:
    ours = fitting.usable(DATA / fitting.OWN_MEMORY)
    misses = {row.row_id: abs(fitting.error(row, fitting.predicted_memory)) for row in ours}
    plain = [
        misses[row.row_id]
        for row in ours
        if row.setup.method == "lora" and row.setup.loss == "stock" and row.metric == "alloc"
    ]
    assert len(plain) == 16
    assert max(plain) < 0.005
    assert max(misses.values()) < 0.15
    # They are of transformers 5; its loss is not that of the published rows.
    older = [row.setup.loss for row in fitting.usable(DATA / fitting.MEMORY)]
    assert "stock" not in older
    assert "stock-4" in older


def test_the_speed_of_known_rows_is_met() -> None:
    found = fitting.usable(DATA / "throughput_dev.csv")
    told = fitting.score([(row, fitting.error(row, fitting.predicted_speed)) for row in found])
    assert told.median <= 0.09
    assert told.within_15 >= 0.80
    assert told.of_sources <= 0.13


def test_a_fit_lowers_the_cost_and_finds_a_shift() -> None:
    found = fitting.usable(DATA / "throughput_dev.csv")[::6]
    kept = dict(FITTED)

    def twice(row: rows.Measured) -> float:
        return 0.7 * fitting.predicted_speed(row)

    try:
        FITTED.update(fitting.PRIOR)
        before = fitting.score([(row, fitting.error(row, twice)) for row in found])
        fitting.fit(("matmul", "elementwise"), found, twice)
        after = fitting.score([(row, fitting.error(row, twice)) for row in found])
    finally:
        FITTED.update(kept)
    assert after.median < before.median
    assert kept == FITTED


def test_the_ends_hold_four_fifths_of_the_truth() -> None:
    row = fitting.usable(DATA / "memory_dev.csv")[0]
    low, high = fitting.ends([(row, each / 100) for each in range(-50, 51)])
    assert low == pytest.approx(math.exp(-0.4), abs=0.02)
    assert high == pytest.approx(math.exp(0.4), abs=0.02)


@pytest.mark.parametrize(
    ("changes", "field", "value"),
    [
        ({"method": "dora"}, "method", "lora"),
        ({"method": "freeze"}, "method", "full"),
        ({"method": "lora", "base_quant": "llm.int8"}, "quant", "int8"),
        ({"method": "qlora", "base_quant": ""}, "quant", "nf4dq"),
        ({"liger": "cce"}, "loss", "fused"),
        ({"parallelism": "zero3_offload", "num_gpus": "4"}, "offload", "params"),
        ({"parallelism": "DeepSpeed ZeRO-2", "num_gpus": "4"}, "parallelism", "zero2"),
        ({"parallelism": "fsdp+tp2", "num_gpus": "4"}, "parallelism", "fsdp"),
        ({"parallelism": "device_map", "num_gpus": "4"}, "tensor", 4),
        ({"parallelism": "none", "num_gpus": "2"}, "parallelism", "ddp"),
        ({"grad_ckpt": "unsloth"}, "checkpointing", "offload"),
        ({"precision": "fp16-true"}, "precision", "bf16-true"),
        ({"attn": "fa2"}, "attention", "flash"),
        ({"lora_targets": "c_attn+w1*"}, "targets", ("q_proj", "k_proj", "v_proj")),
    ],
)
def test_a_row_is_read_in_the_words_that_sources_use(
    changes: dict[str, str], field: str, value: object
) -> None:
    row = {"source": "somebody/else", "notes": "", "method": "lora", **changes}
    assert getattr(rows.setup_of_row(row), field) == value
