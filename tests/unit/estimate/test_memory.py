"""The memory model against sums by hand, and against what must hold of any setup."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher import gpus
from launcher.estimate import GpuKind, Setup, Shape, activations, memory, optimizers, shapes
from launcher.estimate import weights as resident
from launcher.estimate.fitted import FITTED
from launcher.estimate.memory import GIB, loss_bytes, peak
from launcher.estimate.shape import LINEARS

PLAIN = Setup(
    method="full",
    precision="bf16-true",
    seq_len=100,
    micro_batch=1,
    checkpointing="full",
    optimizer="adamw_torch_fused",
)


def test_full_fine_tuning_in_bf16_is_eight_bytes_and_two_more_while_foreach_steps(
    small: Shape,
) -> None:
    fused = resident.resident(small, PLAIN, 1)
    assert fused.weights + fused.gradients + fused.optimizer == 8 * small.params
    assert fused.step == 0
    foreach = resident.resident(small, PLAIN.but(optimizer="adamw_torch"), 1)
    assert foreach.step == 2 * small.params


def test_fp32_weights_under_fsdp_are_twenty_bytes_over_the_shards(small: Shape) -> None:
    setup = PLAIN.but(precision="bf16-amp", parallelism="fsdp", optimizer="adamw_torch")
    held = resident.resident(small, setup, 4)
    whole = held.weights + held.gradients + held.optimizer + held.step
    assert whole == pytest.approx(20 * small.params / 4)


@pytest.mark.parametrize(
    ("stage", "weights", "gradients", "states"),
    [("zero1", 2, 2, 12 / 4), ("zero2", 2, 2 / 4, 12 / 4), ("zero3", 2 / 4, 2 / 4, 12 / 4)],
)
def test_zero_shards_what_its_stage_says(
    small: Shape, stage: str, weights: float, gradients: float, states: float
) -> None:
    held = resident.resident(small, PLAIN.but(parallelism=stage), 4)
    assert held.weights == pytest.approx(weights * small.params)
    assert held.gradients == pytest.approx(gradients * small.params)
    assert held.optimizer == pytest.approx(states * small.params)


def test_zero_2_makes_two_buckets_of_half_a_billion(small: Shape) -> None:
    assert resident.resident(small, PLAIN.but(parallelism="zero2"), 4).gathered == 2e9


def test_an_fp32_adapter_is_sixteen_bytes_a_parameter(small: Shape) -> None:
    setup = Setup(rank=8, targets=("q_proj",), optimizer="adamw_torch_fused")
    held = resident.resident(small, setup, 1)
    params = small.adapter_params(("q_proj",), 8)
    assert held.adapter + held.gradients + held.optimizer == 16 * params
    assert held.weights == 2 * small.params


def test_an_eight_bit_optimizer_makes_it_ten() -> None:
    adapter = optimizers.find("adamw_bnb_8bit")
    assert 4 + 4 + adapter.state_bytes(4) == pytest.approx(10, rel=0.01)


@pytest.mark.parametrize(
    ("quant", "each"), [("nf4", 0.5625), ("nf4dq", 0.516), ("int8", 1.001), ("gptq4", 0.5195)]
)
def test_a_quantised_base_keeps_embedding_and_head(small: Shape, quant: str, each: float) -> None:
    setup = Setup(method="qlora", quant=quant)  # type: ignore[arg-type]
    expected = small.block_params * each + 2 * small.outer
    assert resident.base_bytes(small, setup) == pytest.approx(expected, rel=1e-3)


def test_experts_that_are_not_quantised_stay_in_16_bits() -> None:
    mixtral = shapes.find("mistralai/Mixtral-8x7B-v0.1")
    setup = Setup(method="qlora", quant="nf4")
    experts = 32 * 8 * 3 * 4096 * 14336
    more = resident.base_bytes(mixtral, setup.but(experts_quantised=False))
    assert more - resident.base_bytes(mixtral, setup) == pytest.approx(experts * (2 - 0.5625))


def test_modules_trained_beside_the_adapter_are_copies(small: Shape) -> None:
    setup = Setup(trained=("lm_head",), optimizer="adamw_torch_fused")
    plain = resident.resident(small, setup.but(trained=()), 1)
    held = resident.resident(small, setup, 1)
    assert held.adapter - plain.adapter == 2 * small.embedding
    assert held.gradients - plain.gradients == 2 * small.embedding
    assert held.optimizer - plain.optimizer == 4 * small.embedding


def test_paged_states_are_not_the_allocators(small: Shape) -> None:
    setup = PLAIN.but(optimizer="paged_adamw_8bit")
    assert resident.resident(small, setup, 1).optimizer == 0


def test_gradients_pile_up_whole_between_the_micro_batches_of_fsdp(small: Shape) -> None:
    setup = PLAIN.but(parallelism="fsdp")
    assert resident.resident(small, setup, 4).gradients == small.params * 2 / 4
    assert resident.resident(small, setup.but(grad_accum=2), 4).gradients == small.params * 2


def test_a_checkpointed_block_keeps_its_input(small: Shape) -> None:
    assert activations.kept(small, PLAIN) == 2 * 2 * 64
    assert activations.kept(small, PLAIN.but(precision="bf16-amp")) == 2 * 4 * 64


def test_a_block_without_checkpointing_keeps_24_h_and_8_i_with_plain_heads(small: Shape) -> None:
    # The figure that PyTorch's own storages showed for Llama's block in bf16.
    plain = replace(small, kv_heads=4)
    setup = PLAIN.but(checkpointing="none", attention="sdpa")
    softmax = 4 * 4  # fp32 of each head
    assert activations.per_layer(plain, setup) == 24 * 64 + 8 * 128 + softmax


def test_a_block_of_frozen_weights_keeps_less(small: Shape) -> None:
    # 20 h and 6 i with adapters on queries and values under autocast, as counted.
    plain = replace(small, kv_heads=4)
    setup = Setup(checkpointing="none", rank=1, targets=("q_proj", "v_proj"))
    assert activations.per_layer(plain, setup) == 20 * 64 + 6 * 128 + 4 * 4 + 2 * 2


def test_written_out_scores_grow_with_the_square_of_the_sequence(small: Shape) -> None:
    eager = PLAIN.but(checkpointing="none", attention="eager")
    short = activations.per_layer(small, eager)
    long = activations.per_layer(small, eager.but(seq_len=200))
    assert long - short == 6 * 4 * 100


def test_a_stock_loss_is_14_bytes_a_logit_and_a_fused_one_none(small: Shape) -> None:
    hidden = 2 * 2 * 64
    assert loss_bytes(small, PLAIN) == FITTED["loss_stock"] * 1000 + hidden
    assert loss_bytes(small, PLAIN.but(loss="fused")) == 8 * 64 + hidden
    chunked = loss_bytes(small, PLAIN.but(loss="chunked"))
    assert chunked == FITTED["loss_chunked"] * 1000 + hidden


def test_the_peak_is_the_largest_moment(small: Shape) -> None:
    terms, moment = peak(small, PLAIN.but(seq_len=1), 1)
    assert moment in ("step", "gradients")
    terms, moment = peak(small, PLAIN.but(seq_len=100_000), 1)
    assert moment == "loss"
    assert terms["weights"] == 2 * small.params


def test_logits_of_an_evaluation_can_be_the_peak(small: Shape) -> None:
    setup = PLAIN.but(loss="chunked", eval_batch=500)
    assert peak(small, setup, 1)[1] == "eval"


def test_a_reference_model_is_a_second_copy(small: Shape) -> None:
    held = resident.resident(small, PLAIN.but(reference=True), 1)
    assert held.weights == 4 * small.params


def test_offloading_leaves_the_optimizer_or_all_of_it(small: Shape) -> None:
    setup = PLAIN.but(parallelism="zero3")
    some = resident.resident(small, setup.but(offload="optimizer"), 2)
    every = resident.resident(small, setup.but(offload="params"), 2)
    assert some.optimizer == 0
    assert some.weights > 0
    assert every.weights == every.optimizer == every.gradients == 0


def test_metrics_are_in_order_and_within_their_ranges(small: Shape, gpu: GpuKind) -> None:
    found = memory(small, PLAIN, gpu, 1)
    assert found.alloc.middle < found.reserved.middle < found.nvml.middle
    for each in (found.alloc, found.reserved, found.nvml):
        assert each.low < each.middle < each.high
    assert sum(found.terms.values()) == pytest.approx(found.alloc.middle)


def test_the_verdict_follows_the_gpu(gpu: GpuKind) -> None:
    llama = shapes.find("meta-llama/Llama-2-7b-hf")
    setup = Setup(seq_len=512)
    assert memory(llama, setup, gpu, 1).verdict == "no"
    assert memory(llama, setup, gpus.find("H100"), 1).verdict == "fits"
    needed = memory(llama, setup, gpu, 1).nvml.middle
    near = replace(gpu, usable_gib=needed * 1.02)
    assert memory(llama, setup, near, 1).verdict == "tight"


def test_a_known_measurement_is_met() -> None:
    # torchtune's README: Llama 3.2 3B, 2 x 4096 packed, "Peak Memory Active" 60.0 GiB.
    llama = shapes.find("meta-llama/Llama-3.2-3B")
    setup = PLAIN.but(seq_len=4096, micro_batch=2, checkpointing="none", attention="sdpa")
    assert memory(llama, setup, gpus.find("A100"), 1).alloc.middle == pytest.approx(60.0, rel=0.05)


SETUPS = st.builds(
    Setup,
    method=st.sampled_from(["full", "lora", "qlora"]),
    quant=st.just("none"),
    seq_len=st.integers(1, 16384),
    micro_batch=st.integers(1, 32),
    grad_accum=st.integers(1, 4),
    rank=st.integers(1, 256),
    targets=st.sampled_from([("q_proj", "v_proj"), LINEARS]),
    checkpointing=st.sampled_from(["none", "full", "selective", "offload"]),
    optimizer=st.sampled_from(["adamw_torch", "adamw_bnb_8bit", "sgd", "paged_adamw_8bit"]),
    precision=st.sampled_from(["bf16-true", "bf16-autocast", "bf16-amp", "fp32"]),
    parallelism=st.sampled_from(["none", "ddp", "fsdp", "zero1", "zero2", "zero3"]),
    offload=st.sampled_from(["none", "optimizer"]),
    attention=st.sampled_from(["flash", "sdpa", "eager"]),
    loss=st.sampled_from(["stock", "chunked", "fused"]),
)
MODELS = st.sampled_from(
    [
        shapes.find(name)
        for name in ("Qwen/Qwen2.5-0.5B", "meta-llama/Llama-3.1-8B", "Qwen/Qwen3-30B-A3B")
    ]
)


def total(shape: Shape, setup: Setup, count: int) -> float:
    return sum(peak(shape, setup, count)[0].values()) / GIB


@settings(max_examples=100, deadline=None)
@given(MODELS, SETUPS, st.sampled_from([1, 2, 8]))
def test_more_work_never_takes_less_memory(shape: Shape, setup: Setup, count: int) -> None:
    now = total(shape, setup, count)
    assert now > 0
    assert total(shape, setup.but(seq_len=setup.seq_len + 512), count) >= now
    assert total(shape, setup.but(micro_batch=setup.micro_batch + 1), count) >= now
    assert total(shape, setup.but(rank=setup.rank + 8), count) >= now


@settings(max_examples=100, deadline=None)
@given(MODELS, SETUPS)
def test_more_shards_never_take_more_of_each_gpu(shape: Shape, setup: Setup) -> None:
    if setup.parallelism in ("fsdp", "zero1", "zero2", "zero3"):
        assert total(shape, setup, 4) <= total(shape, setup, 2) * (1 + 1e-9)
        assert total(shape, setup, 8) <= total(shape, setup, 4) * (1 + 1e-9)


@settings(max_examples=100, deadline=None)
@given(MODELS, SETUPS)
def test_saving_measures_save(shape: Shape, setup: Setup) -> None:
    everything = total(shape, setup.but(checkpointing="none"), 1)
    assert total(shape, setup.but(checkpointing="full"), 1) <= everything * 1.1
    long = setup.but(seq_len=setup.seq_len + 2048)  # a chunked loss has a second head gradient
    stock = total(shape, long.but(loss="stock"), 1)
    assert total(shape, long.but(loss="chunked"), 1) <= stock * 1.02
    assert total(shape, long.but(loss="fused"), 1) <= stock * 1.02


@settings(max_examples=100, deadline=None)
@given(MODELS, SETUPS)
def test_a_quantised_base_is_smaller(shape: Shape, setup: Setup) -> None:
    adapted = setup.but(method="qlora", precision="bf16-autocast")
    ends = [
        resident.base_bytes(shape, adapted.but(quant=quant))
        for quant in ("nf4dq", "nf4", "int8", "none")
    ]
    assert ends == sorted(ends)
