"""A model small enough to compute by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from launcher.estimate import GpuKind, Shape
from launcher.estimate.shape import counted


@pytest.fixture
def small() -> Shape:
    """Two blocks of width 64: 4 heads of 16, 2 of keys, an MLP of 128, a vocabulary of 1000."""
    shape = Shape(
        name="small",
        hidden=64,
        layers=2,
        heads=4,
        kv_heads=2,
        head_dim=16,
        intermediate=128,
        vocab=1000,
        tied=False,
        params=0,
        active_params=0,
    )
    every, active = counted(shape)
    return replace(shape, params=every, active_params=active)


@pytest.fixture
def gpu() -> GpuKind:
    """One that makes sums easy: 100 TFLOP/s, 1 TB/s, 10 GiB."""
    return GpuKind(
        name="test",
        usable_gib=10.0,
        dense=100e12,
        matmul=100e12,
        bandwidth=1e12,
        link=100e9,
        peer=True,
        bf16=True,
        capability="8.0",
        source="none",
    )
