"""How long training and evaluating take, from the rate and the amount of data."""

from __future__ import annotations

import math
from dataclasses import dataclass

from launcher.estimate.ranges import Range
from launcher.estimate.setup import Setup
from launcher.estimate.shape import Shape
from launcher.estimate.speed import forward_share, speed
from launcher.gpus import GpuKind


@dataclass(frozen=True)
class Duration:
    """Steps of the optimizer, and seconds.

    Start-up, downloads, saving checkpoints and merging are not in it: they do not follow from the
    model's shape.
    """

    steps: int
    training_s: Range
    evaluation_s: Range

    @property
    def total_s(self) -> Range:
        """Both."""
        one, two = self.training_s, self.evaluation_s
        return Range(one.low + two.low, one.middle + two.middle, one.high + two.high)


def duration(
    shape: Shape,
    setup: Setup,
    gpu: GpuKind,
    count: int = 1,
    *,
    tokens: int,
    epochs: float = 1.0,
    max_steps: int | None = None,
    eval_tokens: int = 0,
    evaluations: int = 0,
) -> Duration:
    """The time on `count` GPUs of a kind.

    tokens       of the training data once, as they are fed: packed, or padded to the row
    max_steps    ends it before the epochs are over
    eval_tokens  of the evaluation data; gone through `evaluations` times, forward only
    """
    pace = speed(shape, setup, gpu, count)
    replicas = max(count // (setup.tensor * setup.context), 1)
    of_step = setup.micro_batch * setup.seq_len * setup.rows_per_sample * setup.grad_accum
    steps = math.ceil(tokens * epochs / (of_step * replicas))
    if max_steps is not None:
        steps = min(steps, max_steps)
    passed = eval_tokens * evaluations * forward_share(setup) / count
    rate = pace.tokens_per_s
    evaluation = Range(passed / rate.high, passed / rate.middle, passed / rate.low)
    return Duration(steps, pace.step_s * steps, evaluation)
