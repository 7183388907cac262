"""The time model against sums by hand, and against what must hold of any setup."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher import gpus
from launcher.estimate import GpuKind, Setup, Shape, optimizers, shapes, speed
from launcher.estimate.fitted import FITTED
from launcher.estimate.speed import times
from launcher.estimate.weights import QUANT_BYTES

FULL = Setup(
    method="full", precision="bf16-true", checkpointing="none", seq_len=1000, micro_batch=2
)


def test_products_are_three_passes_two_with_frozen_weights_one_more_recomputed(
    small: Shape, gpu: GpuKind
) -> None:
    rate = gpu.matmul * FITTED["matmul"]

    def expected(passes: float, head: float) -> float:
        flops = 2 * 2000 * (small.active_block_params * passes + small.embedding * head)
        read = 2 * (small.block_params * passes + small.embedding * head)
        return flops / rate + read / gpu.bandwidth

    assert times(small, FULL, gpu, 1)["products"] == pytest.approx(expected(3, 3))
    again = FULL.but(checkpointing="full")
    assert times(small, again, gpu, 1)["products"] == pytest.approx(expected(4, 3))
    frozen = FULL.but(method="lora", rank=1, targets=("q_proj",))
    adapter = 2 * 2000 * small.adapter_params(("q_proj",), 1) * 3 / rate
    assert times(small, frozen, gpu, 1)["products"] == pytest.approx(expected(2, 2) + adapter)


def test_causal_attention_is_half_of_the_square(small: Shape, gpu: GpuKind) -> None:
    # 2 products of seq * width for each token, halved; backward takes 2.5 times as long.
    flops = 2 * 2000 * 1000 * 64 * 2 * 3.5
    rate = gpu.matmul * FITTED["attention"]
    assert times(small, FULL, gpu, 1)["attention"] == pytest.approx(flops / rate)
    eager = times(small, FULL.but(attention="eager"), gpu, 1)["attention"]
    assert eager == pytest.approx(2 * flops / rate)
    older = times(small, FULL.but(attention="flash1"), gpu, 1)["attention"]
    assert older == pytest.approx(2 * flops / rate)


def test_a_quantised_weight_is_read_written_and_read_again(small: Shape, gpu: GpuKind) -> None:
    setup = FULL.but(method="qlora", quant="nf4")
    moved = small.block_params * (QUANT_BYTES["nf4"] + 4) * 2
    assert times(small, setup, gpu, 1)["dequantise"] == pytest.approx(
        moved / (gpu.bandwidth * FITTED["dequantise"])
    )


def test_sharded_weights_are_gathered_twice_and_gradients_scattered(
    small: Shape, gpu: GpuKind
) -> None:
    sent = times(small, FULL.but(parallelism="fsdp"), gpu, 4)["traffic"]
    assert sent == pytest.approx(0.75 * 3 * 2 * small.params / (gpu.link * FITTED["link"]))
    assert times(small, FULL.but(parallelism="fsdp"), gpu, 1)["traffic"] == 0
    ddp = times(small, FULL.but(grad_accum=4), gpu, 4)["traffic"]
    assert ddp == pytest.approx(0.75 * 2 * 2 * small.params / 4 / (gpu.link * FITTED["link"]))


def test_the_optimizers_step_moves_weight_gradient_and_states_once(
    small: Shape, gpu: GpuKind
) -> None:
    fused = FULL.but(optimizer="adamw_torch_fused")
    # 2-byte weight and gradient read, weight written, two states read and written
    moved = small.params * (3 * 2 + 2 * 2 * 2)
    found = times(small, fused, gpu, 1)["step"]
    assert found == pytest.approx(moved / gpu.bandwidth + 0.002)
    assert optimizers.find("adamw_torch").traffic(2) == 3 * optimizers.find(
        "adamw_torch_fused"
    ).traffic(2)


def test_small_models_wait_for_the_processor(gpu: GpuKind, small: Shape) -> None:
    found = speed(small, FULL.but(seq_len=16), gpu, 1)
    assert found.bound == "launch"


def test_tokens_over_the_step_are_the_rate(small: Shape, gpu: GpuKind) -> None:
    found = speed(small, FULL.but(grad_accum=4), gpu, 1)
    assert found.tokens_per_s.middle * found.step_s.middle == pytest.approx(4 * 2000)
    assert found.tokens_per_s.low < found.tokens_per_s.middle < found.tokens_per_s.high


def test_tokens_split_over_gpus_are_counted_once(small: Shape, gpu: GpuKind) -> None:
    split = speed(small, FULL.but(seq_len=8000, context=4), gpu, 4)
    assert split.tokens_per_s.middle * split.step_s.middle == pytest.approx(2 * 8000 / 4)


def test_a_known_measurement_is_met() -> None:
    # llm-foundry's table: MPT-7B, 8 x A100-80GB, 2048 x 6, no checkpointing: 4641 tokens/s.
    mpt = shapes.find("mosaicml/mpt-7b-bench")
    setup = FULL.but(
        seq_len=2048,
        micro_batch=6,
        grad_accum=2,
        precision="bf16-amp",
        parallelism="fsdp",
        attention="flash1",
    )
    found = speed(mpt, setup, gpus.find("A100-80GB"), 8).tokens_per_s
    assert found.middle == pytest.approx(4641, rel=0.15)


MODELS = st.sampled_from(
    [shapes.find(name) for name in ("Qwen/Qwen2.5-0.5B", "meta-llama/Llama-3.1-8B")]
)


@settings(max_examples=100, deadline=None)
@given(
    MODELS,
    st.sampled_from([("full", "none"), ("lora", "none"), ("qlora", "nf4")]),
    st.sampled_from(gpus.kinds()),
    st.integers(1, 16),
    st.sampled_from([1, 4, 8, 16]),
)
def test_what_must_hold_of_any_rate(
    shape: Shape, way: tuple[str, str], kind: GpuKind, batch: int, count: int
) -> None:
    setup = Setup(method=way[0], quant=way[1], micro_batch=batch)  # type: ignore[arg-type]
    found = speed(shape, setup, kind, count).tokens_per_s.middle
    # Nothing is faster than the GPU's peak, nor slower when it is twice as good.
    assert found * 4 * shape.active_block_params < kind.dense
    better = replace(kind, matmul=2 * kind.matmul, bandwidth=2 * kind.bandwidth, link=2 * kind.link)
    assert speed(shape, setup, better, count).tokens_per_s.middle >= found
    larger = setup.but(micro_batch=batch + 1)
    assert speed(shape, larger, kind, count).tokens_per_s.middle >= found * 0.999
