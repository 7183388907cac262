"""Steps and seconds from an amount of data."""

from __future__ import annotations

import pytest

from launcher.estimate import GpuKind, Setup, Shape, duration, speed

SETUP = Setup(method="full", checkpointing="none", seq_len=100, micro_batch=2, grad_accum=5)


def test_steps_are_tokens_over_what_all_gpus_take_in_a_step(small: Shape, gpu: GpuKind) -> None:
    assert duration(small, SETUP, gpu, 1, tokens=10_000).steps == 10
    assert duration(small, SETUP, gpu, 1, tokens=10_001).steps == 11
    assert duration(small, SETUP, gpu, 4, tokens=10_000, epochs=2).steps == 5
    assert duration(small, SETUP, gpu, 1, tokens=10_000, max_steps=3).steps == 3


def test_gpus_that_share_a_row_are_one(small: Shape, gpu: GpuKind) -> None:
    assert duration(small, SETUP.but(context=2), gpu, 4, tokens=10_000).steps == 5


def test_training_takes_the_steps_times_one(small: Shape, gpu: GpuKind) -> None:
    found = duration(small, SETUP, gpu, 1, tokens=10_000)
    assert found.training_s.middle == pytest.approx(10 * speed(small, SETUP, gpu, 1).step_s.middle)
    assert found.evaluation_s.middle == 0
    assert found.total_s == found.training_s


def test_evaluating_is_the_forward_pass_a_third_of_full_training(
    small: Shape, gpu: GpuKind
) -> None:
    found = duration(small, SETUP, gpu, 1, tokens=1000, eval_tokens=9000, evaluations=2)
    rate = speed(small, SETUP, gpu, 1).tokens_per_s.middle
    assert found.evaluation_s.middle == pytest.approx(18_000 / 3 / rate)
    assert found.total_s.low < found.total_s.middle < found.total_s.high
