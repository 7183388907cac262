"""The table of GPUs, and the many ways to spell one."""

from __future__ import annotations

import pytest

from backends.errors import BadInput
from launcher import gpus
from launcher.gpus import GpuKind, generation, table


@pytest.mark.parametrize("kind", gpus.kinds(), ids=lambda kind: kind.name)
def test_each_row_holds_together(kind: GpuKind) -> None:
    assert 10 < kind.usable_gib < 300
    assert 50e12 <= kind.dense < 3e15
    assert 0 < kind.matmul <= 1.05 * kind.dense
    assert 2e11 < kind.bandwidth < 1e13
    assert 1e10 < kind.link < 1e12
    assert kind.source
    assert gpus.find(kind.name) is kind


@pytest.mark.parametrize(
    ("spelled", "name"),
    [
        ("a100-80gb", "A100-80GB"),
        ("A100", "A100-80GB"),
        ("NVIDIA A100-SXM4-80GB", "A100-80GB"),
        ("A100 80GB PCIe", "A100-80GB"),
        ("A100-PCIE-40GB", "A100-40GB"),
        ("H100", "H100-SXM"),
        ("NVIDIA H100 80GB HBM3", "H100-SXM"),
        ("rtx 4090", "RTX4090"),
        ("NVIDIA GeForce RTX 3090", "RTX3090"),
        ("Tesla T4", "T4"),
        ("L40S", "L40S"),
    ],
)
def test_a_gpu_has_many_names(spelled: str, name: str) -> None:
    assert gpus.find(spelled).name == name


def test_an_unknown_one_is_named_with_near_ones() -> None:
    with pytest.raises(BadInput) as caught:
        gpus.find("H1000")
    assert "'H1000'" in caught.value.message
    assert "H100" in caught.value.hint


def test_without_bf16_the_rate_is_that_of_fp16() -> None:
    assert not gpus.find("T4").bf16
    assert gpus.find("T4").dense == 65e12


def test_every_kind_has_its_generation_from_one_place() -> None:
    names = {kind.name for kind in gpus.kinds() if kind.capability[0].isdigit()}
    for kind in gpus.kinds():
        has = gpus.capability(kind.name)
        assert (has is not None) == (kind.name in names), kind.name
        assert has is None or gpus.spelled(has) == kind.capability
    for name in generation.ELSEWHERE:
        assert table.known(name) is None, f"{name} is in the table too"
