"""What axolotl prints about its progress: patterns for the runner, and how to read the figures.

The trainer prints a dictionary every few steps, whose numbers may be quoted, and a tqdm bar:

    {'loss': '0.1331', 'grad_norm': '0.293', …, 'tokens/train_per_sec_per_gpu': '48.4', …}
     58%|█████▊    | 35/60 [03:56<02:31,  6.07s/it]
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backends.plan import MetricPattern

_NUMBER = r"[-+]?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|nan|inf)"

_KEYS = {
    "loss": "loss",
    "eval_loss": "eval_loss",
    "train_loss": "train_loss",
    "grad_norm": "grad_norm",
    "learning_rate": "learning_rate",
    "epoch": "epoch",
    "tokens/train_per_sec_per_gpu": "tokens_per_second",
    "tokens/total": "tokens",
    "memory/max_allocated (GiB)": "memory_gib",
    "train_runtime": "train_seconds",
}


def _entry(key: str, group: str) -> MetricPattern:
    escaped = "".join(f"\\{c}" if c in "()." else c for c in key)
    return MetricPattern(rf"'{escaped}': '?(?P<{group}>{_NUMBER})")


PATTERNS: tuple[MetricPattern, ...] = (
    *(_entry(key, group) for key, group in _KEYS.items()),
    # A bar with words in front of it belongs to a data set being read, not to the training.
    MetricPattern(r"^\s*\d+%\|[^|]*\|\s*(?P<step>\d+)/(?P<steps>\d+) \["),
    MetricPattern(r"^answered (?P<step>\d+)/(?P<steps>\d+)"),
)


class Reading:
    """The newest figures of one step of a job.

    step, total  how far the training is; None until its bar shows
    """

    def __init__(self) -> None:
        self.step: int | None = None
        self.total: int | None = None
        self._figures: dict[str, float] = {}

    def take(self, metrics: Mapping[str, Any]) -> None:
        """Take in one row of the runner's metrics."""
        for key, value in metrics.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                self._figures[key] = float(value)
        total = metrics.get("steps")
        # An evaluation in the middle of a training has a bar of its own, which is shorter.
        if isinstance(total, int | float) and total >= (self.total or 0):
            self.total = int(total)
            self.step = int(metrics.get("step", 0))

    def figures(self) -> str:
        """`loss 0.133  48 tokens/s`: what is known of it."""
        parts = []
        if (loss := self._figures.get("loss")) is not None:
            parts.append(f"loss {loss:.3g}")
        if (speed := self._figures.get("tokens_per_second")) is not None:
            parts.append(f"{speed:.0f} tokens/s")
        if memory := self._figures.get("memory_gib"):
            parts.append(f"{memory:.1f} GiB")
        return "  ".join(parts)
