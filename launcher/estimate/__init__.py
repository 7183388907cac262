"""What a fine-tuning takes: memory of each GPU, and time.

Pure functions over a model's shape, a setup, a kind of GPU and a count. Nothing is downloaded, and
nothing is imported beyond the standard library: an estimate is made for every offer there is.

    shape   = shapes.find("meta-llama/Llama-3.1-8B")
    setup   = config.setup_of({...})                     # an axolotl config
    gpu     = gpus.find("H100")
    memory(shape, setup, gpu, 1).nvml.middle             # GiB
    speed(shape, setup, gpu, 1).tokens_per_s.middle      # of one GPU

The formulas and how well they do: docs/estimating.md.
"""

from __future__ import annotations

from launcher.estimate.config import setup_of
from launcher.estimate.duration import Duration, duration
from launcher.estimate.memory import MemoryEstimate, corrected, memory
from launcher.estimate.ranges import Range
from launcher.estimate.setup import Setup
from launcher.estimate.shape import Shape
from launcher.estimate.speed import SpeedEstimate, speed
from launcher.gpus import GpuKind

__all__ = [
    "Duration",
    "GpuKind",
    "MemoryEstimate",
    "Range",
    "Setup",
    "Shape",
    "SpeedEstimate",
    "corrected",
    "duration",
    "memory",
    "setup_of",
    "speed",
]
