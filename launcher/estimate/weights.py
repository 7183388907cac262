"""Weights, gradients and optimizer states: bytes on one GPU, before activations."""

from __future__ import annotations

from dataclasses import dataclass, replace

from launcher.estimate import optimizers
from launcher.estimate.setup import Setup
from launcher.estimate.shape import Shape

QUANT_BYTES = {
    "none": 2.0,
    "nf4": 0.5 + 4 / 64,  # one fp32 scale for 64 weights: Dettmers et al., arXiv:2305.14314
    "nf4dq": 0.5 + 1 / 64 + 4 / (64 * 256),  # the scales in 8 bits, one fp32 for 256 of them
    "int8": 1.0 + 4 / 4096,  # one fp32 scale a row: arXiv:2208.07339
    "gptq4": 0.5 + (2 + 0.5) / 128,  # fp16 scale and 4-bit zero for 128: arXiv:2210.17323
}
"""Bytes per weight of a linear layer; embedding, head and norms are not quantised."""

ZERO3_LIVE = 1_000_000_000
"""Parameters that ZeRO-3 gathers ahead at most (`stage3_max_live_parameters`, DeepSpeed)."""

ZERO_BUCKET = 500_000_000
"""Elements of a bucket that gradients are reduced in (`reduce_bucket_size`, DeepSpeed)."""

ZERO_BUCKETS = 2
"""Made whole at the start, one to fill while the other is sent (`overlap_comm`)."""


@dataclass(frozen=True)
class Resident:
    """Bytes on one GPU.

    weights, adapter  the base model, and what is trained beside it
    gradients         when all are there
    optimizer         its states, an fp32 copy of the weights among them where it keeps one
    step              what exists only while it steps
    gathered          what a sharded model holds whole while it computes; buckets
    trained           parameters that this GPU steps: a count, not bytes
    """

    weights: float
    adapter: float
    gradients: float
    optimizer: float
    step: float
    gathered: float
    trained: float


def _fp32_weights(setup: Setup) -> bool:
    """Full fine-tuning whose own weights are in 32 bits."""
    return setup.precision in ("bf16-amp", "fp32", "fp8") and not setup.deepspeed


def base_bytes(shape: Shape, setup: Setup) -> float:
    """The base model's weights, whole."""
    if setup.method == "full":
        return shape.params * (4.0 if _fp32_weights(setup) else 2.0)
    if setup.quant == "none":
        return shape.params * (4.0 if setup.precision == "fp32" else 2.0)
    plain = 4.0 if setup.wide_stream else 2.0
    aside = 0 if setup.experts_quantised else shape.expert_params
    quantised = shape.block_params - aside
    return quantised * QUANT_BYTES[setup.quant] + 2.0 * aside + shape.outer * plain


def saved_params(shape: Shape, setup: Setup) -> int:
    """Parameters of the modules that are trained in full beside an adapter."""
    if setup.method == "full":
        return 0
    return len(set(setup.trained) & {"embed_tokens", "lm_head"}) * shape.embedding


def trained_params(shape: Shape, setup: Setup) -> int:
    """Parameters that get a gradient."""
    if setup.method == "full":
        return round(shape.params * setup.trained_share)
    adapter = shape.adapter_params(setup.targets, setup.rank, experts=setup.experts_adapted)
    return adapter + saved_params(shape, setup)


def resident(shape: Shape, setup: Setup, count: int) -> Resident:
    """What each of `count` GPUs holds. Where the rules come from: docs/estimating.md."""
    shards = max(count // (setup.tensor * setup.context), 1)
    held = _whole(shape, setup)
    if setup.deepspeed:
        held = _zero(held, shape, setup, shards)
    elif setup.fsdp and shards > 1:
        held = _fully_sharded(held, shape, setup, shards)
    elif count > 1:
        # DDP sends gradients from buckets, which are a copy of them.
        held = replace(held, gathered=held.gradients)
    if setup.offload != "none":
        held = _offloaded(held, setup)
    if setup.fused_backward:
        # The largest gradient is that of the embedding, or of a third of a block.
        block = shape.block_params / shape.layers / 3
        largest = max(shape.embedding, block) / setup.tensor * _width(setup)
        held = replace(held, gradients=min(held.gradients, largest), step=0.0)
    if setup.reference:
        sharded = setup.fsdp or setup.parallelism == "zero3"
        copy = 2.0 * shape.params / setup.tensor / (shards if sharded else 1)
        held = replace(held, weights=held.weights + copy)
    return held


def _width(setup: Setup) -> float:
    """Bytes of one trained parameter."""
    if setup.adapted:
        return float(setup.adapter_bytes)
    return 4.0 if _fp32_weights(setup) else 2.0


def _whole(shape: Shape, setup: Setup) -> Resident:
    """On a GPU that holds all of it.

    Modules trained beside an adapter are copies in the base's type; the adapter has its own.
    """
    optimizer = optimizers.find(setup.optimizer)
    trained = trained_params(shape, setup) / setup.tensor
    saved = saved_params(shape, setup) / setup.tensor
    groups = ((trained - saved, _width(setup)), (saved, 4.0 if setup.wide_stream else 2.0))
    mass = sum(params * width for params, width in groups)
    states = sum(params * optimizer.state_bytes(width) for params, width in groups)
    if optimizer.blocks and setup.method == "full" and setup.trained_share == 1:
        wide = optimizer.states * 4.0 - optimizer.state_bytes(4.0)
        states += wide * shape.embedding / setup.tensor
    return Resident(
        weights=base_bytes(shape, setup) / setup.tensor,
        adapter=mass if setup.adapted else 0.0,
        gradients=mass,
        # Paged states are in memory that the allocator does not count, and can leave.
        optimizer=0.0 if optimizer.paged else states,
        step=sum(params * optimizer.step_bytes(width) for params, width in groups),
        gathered=0.0,
        trained=trained,
    )


def _zero(held: Resident, shape: Shape, setup: Setup, shards: int) -> Resident:
    """ZeRO, with mixed precision of its own.

    Weights and gradients in 16 bits, and in the optimizer an fp32 copy beside its states
    (Rajbhandari et al. 2019, arXiv:1910.02054, section 3.1).
    """
    optimizer = optimizers.find(setup.optimizer)
    moments = 0.0 if optimizer.paged else optimizer.state_bytes(4.0)
    third = setup.parallelism == "zero3"
    if third:
        # The head's weights are needed whole, however many are live already.
        live = min(shape.params / setup.tensor, ZERO3_LIVE) + shape.embedding / setup.tensor
        gathered = 2.0 * live
    else:
        gathered = 2.0 * ZERO_BUCKETS * ZERO_BUCKET
    return replace(
        held,
        weights=held.weights / (shards if third else 1),
        adapter=2.0 * held.trained / (shards if third else 1) if setup.adapted else 0.0,
        gradients=2.0 * held.trained / (1 if setup.parallelism == "zero1" else shards),
        optimizer=held.trained * (4.0 + moments) / shards,
        # Gradients are cast to fp32 a group of parameters at a time.
        step=4.0 * min(held.trained / shards, ZERO3_LIVE),
        gathered=gathered,
        trained=held.trained / shards,
    )


def _fully_sharded(held: Resident, shape: Shape, setup: Setup, shards: int) -> Resident:
    """FSDP: a share of everything, and more while it computes.

    Whole are then a block, the next one, and what is outside the blocks, with their gradients
    (Zhao et al. 2023, arXiv:2304.11277).
    """
    full = setup.method == "full"
    outer = 2.0 * shape.outer / setup.tensor
    sharded = setup.quant == "none" or setup.shard_quant
    block = shape.block_params / shape.layers / setup.tensor
    gathered = 0.0
    if sharded:
        gathered = 2 * block * QUANT_BYTES[setup.quant] + outer
    if setup.parallelism == "fsdp_grad_op":
        gathered = 2.0 * shape.params / setup.tensor
    if full:
        gathered += 2.0 * block + outer
    # Between micro batches nothing is reduced (`no_sync`), so gradients pile up whole.
    piled = full and setup.grad_accum > 1
    return replace(
        held,
        weights=held.weights / (shards if sharded else 1),
        adapter=held.adapter / shards,
        gradients=2.0 * held.trained if piled else held.gradients / shards,
        optimizer=held.optimizer / shards,
        step=held.step / shards,
        gathered=gathered,
        trained=held.trained / shards,
    )


def _offloaded(held: Resident, setup: Setup) -> Resident:
    """The optimizer's part, or all weights too, in the processor's memory."""
    held = replace(held, optimizer=0.0, step=0.0)
    if setup.offload == "params":
        return replace(held, weights=0.0, adapter=0.0, gradients=0.0)
    return replace(held, gradients=0.0) if setup.method == "full" else held
