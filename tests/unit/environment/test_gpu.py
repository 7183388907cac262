"""The GPUs of this machine, from what the driver's own tool prints."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from backends.errors import Refused
from launcher.environment.gpu import Gpu, detect, parse, require_cuda13

TWO = """\
0, GPU-aaaa1111-0000-0000-0000-000000000000, NVIDIA H100 80GB HBM3, 81559, 9.0, 580.95.05
1, GPU-bbbb2222-0000-0000-0000-000000000000, Tesla T4, 15360, 7.5, 580.95.05
"""
H100 = Gpu("NVIDIA H100 80GB HBM3", 81559, (9, 0), "580.95.05")
T4 = Gpu("Tesla T4", 15360, (7, 5), "580.95.05")


@pytest.mark.parametrize(
    ("visible", "seen"),
    [
        (None, [H100, T4]),
        ("", []),
        ("-1", []),
        ("1", [T4]),
        ("1,0", [T4, H100]),
        ("0,7,1", [H100]),
        ("GPU-bbbb", [T4]),
        ("GPU-cccc,0", []),
    ],
)
def test_what_cuda_would_see(visible: str | None, seen: list[Gpu]) -> None:
    assert parse(TWO, visible=visible) == seen


@pytest.mark.parametrize(
    "text",
    [
        "",
        "No devices were found\n",
        "0, GPU-a, Old, [N/A], [N/A], 390.1\n",
        "Failed to initialize NVML: Driver/library version mismatch\n",
    ],
)
def test_anything_else_is_no_gpu(text: str) -> None:
    assert parse(text) == []


def test_no_driver_is_no_gpu(tmp_path: Path) -> None:
    assert detect({"PATH": str(tmp_path)}) == []


@pytest.mark.parametrize("script", ["exit 9", "echo nonsense", "exec /nowhere/at/all"])
def test_a_driver_tool_that_fails_is_no_gpu(tmp_path: Path, script: str) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    assert detect({"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}) == []


@pytest.mark.parametrize(
    ("gpu", "what"),
    [
        (Gpu("A", 1, (9, 0), "570.10"), "driver 570.10 is too old"),
        (Gpu("Tesla V100", 1, (7, 0), "580.1"), "Tesla V100 has compute capability 7.0"),
    ],
)
def test_what_cuda_13_cannot_use_is_refused(gpu: Gpu, what: str) -> None:
    with pytest.raises(Refused, match=what) as caught:
        require_cuda13([H100, gpu])
    assert "CUDA_VISIBLE_DEVICES=" in caught.value.hint


def test_what_cuda_13_can_use_passes() -> None:
    require_cuda13([H100, T4])
    require_cuda13([])
