"""The rows that the GPU grid writes are rows that the estimator's benchmark reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import estimator_rows as rows
from benchmarks import gpu_grid
from benchmarks.gpu_grid import Outcome, Point, Tables

LLAMA = "meta-llama/Llama-3.2-1B"


@pytest.fixture
def tables(tmp_path: Path) -> Tables:
    return Tables(tmp_path, "own-trainer", "grid: transformers 5.16.1", "H100-SXM", "t")


def test_a_row_says_what_was_trained(tables: Tables, tmp_path: Path) -> None:
    point = Point(LLAMA, "qlora", 2048, 4, accumulate=2, checkpoint=False, liger=True)
    tables.add(point, Outcome(alloc=3.0, reserved=4.0, device=5.0, steps_s=[0.3, 0.2, 9.0]))
    room = [rows.measured(row) for row in rows.read(tmp_path / "memory.csv")]
    assert [(one.metric, one.value) for one in room] == [
        ("alloc", 3.0),
        ("reserved", 4.0),
        ("nvml", 5.0),
    ]
    setup = room[0].setup
    assert (setup.method, setup.quant, setup.loss) == ("qlora", "nf4dq", "fused")
    assert (setup.tokens, setup.grad_accum, setup.checkpointing) == (8192, 2, "none")
    (pace,) = (rows.measured(row) for row in rows.read(tmp_path / "throughput.csv"))
    assert pace.value == pytest.approx(2 * 8192 / 0.3, rel=1e-3)  # of the middle step


def test_what_does_not_fit_has_no_peak(tables: Tables, tmp_path: Path) -> None:
    tables.add(Point(LLAMA, "full", 8192, 64), Outcome(fits=False, notes="out of memory"))
    (row,) = (rows.measured(row) for row in rows.read(tmp_path / "memory.csv"))
    assert (row.fits, row.value, row.setup.loss) == (False, None, "stock")
    assert rows.read(tmp_path / "throughput.csv") == []


@pytest.mark.parametrize("points", [gpu_grid.trainer_points, gpu_grid.axolotl_points])
def test_the_grid_has_shapes_that_are_known_and_no_point_twice(points: object) -> None:
    assert callable(points)
    found = points()
    assert len(found) == len(set(found)) > 5
    for point in found:
        assert gpu_grid.config_of(point.model)["hidden_size"] > 0
