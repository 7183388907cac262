"""How many tokens a second a training takes in on each GPU.

A micro batch takes as long as its products, its attention and what is bound by memory together, or
as long as the processor needs to launch it all, whichever is longer; what is sent between GPUs
hides behind that as far as it goes. Times are seconds on one GPU.
"""

from __future__ import annotations

from dataclasses import dataclass

from launcher.estimate import activations, optimizers, weights
from launcher.estimate.fitted import FITTED
from launcher.estimate.ranges import Range
from launcher.estimate.setup import Setup
from launcher.estimate.shape import FUSED_EXPERTS, LINEARS, Shape
from launcher.gpus import GpuKind

_WORK = ("products", "attention", "memory", "adapters", "loss", "dequantise")

MACHINE = 8
"""GPUs of one machine, as they are commonly rented."""


PROCESSOR = 25e9
"""Bytes/s of the processor's memory for each GPU: 200 GB/s among eight. Judged, not measured."""

BUS = 16e9
"""Bytes/s between a GPU and the processor's memory: PCIe 4 at two thirds."""


@dataclass(frozen=True)
class SpeedEstimate:
    """How fast it goes.

    tokens_per_s  tokens that one GPU takes in a second, padding included
    step_s        of an optimizer's step: all micro batches of one GPU
    terms         seconds of one micro batch by name, before what overlaps is taken off; `step` is
                  the optimizer's, once for all micro batches
    bound         the largest term
    """

    tokens_per_s: Range
    step_s: Range
    terms: dict[str, float]
    bound: str


def speed(shape: Shape, setup: Setup, gpu: GpuKind, count: int = 1) -> SpeedEstimate:
    """The rate on each of `count` GPUs of a kind."""
    terms = times(shape, setup, gpu, count)
    work = sum(terms[name] for name in _WORK)
    busy = _longer(work, terms["launch"])
    micro = _longer(busy, terms["traffic"], 4 if gpu.peer else 2) + terms["offload"]
    if setup.parallelism == "zero3":
        # Parameters are fetched as they are needed: little of it hides.
        micro = busy + terms["traffic"] + terms["offload"]
    step = setup.grad_accum * micro + terms["step"]
    tokens = setup.grad_accum * setup.tokens / setup.tensor
    rate = tokens / step
    low, high = FITTED["speed_low"], FITTED["speed_high"]
    return SpeedEstimate(
        tokens_per_s=Range(rate * low, rate, rate * high),
        step_s=Range(step / high, step, step / low),
        terms=terms,
        bound=max(terms, key=lambda name: terms[name]),
    )


def _longer(one: float, other: float, power: int = 4) -> float:
    """The longer of two that overlap; where they are alike, neither hides wholly."""
    return float((one**power + other**power) ** (1 / power))


def times(shape: Shape, setup: Setup, gpu: GpuKind, count: int) -> dict[str, float]:
    """Seconds of one micro batch by name."""
    tokens = setup.tokens
    again = _again(setup)
    matmul = gpu.matmul * FITTED["matmul"]
    passes, head_passes = _passes(setup, again)
    blocks, head = shape.active_block_params, shape.embedding
    flops = 2.0 * tokens * (blocks * passes + head * head_passes)
    flops += 2.0 * tokens * _adapter(shape, setup) * (3 + again)
    # Every pass reads the weights once more, which counts where tokens are few.
    read = 2.0 * (shape.block_params * passes + head * head_passes)
    products = flops / matmul + read / gpu.bandwidth
    attended = setup.seq_len * (1.0 if setup.attention != "eager" else 2.0)
    attention = 2.0 * tokens * attended * shape.query_width * shape.layers * (1 + 2.5 + again)
    kept = activations.per_layer(shape, setup) * shape.layers * tokens
    memory = FITTED["elementwise"] * kept * (1 + again / 3) / gpu.bandwidth
    logit = 8.0 if setup.loss == "fused" else FITTED["loss_traffic"]
    loss = logit * shape.vocab * tokens / gpu.bandwidth
    return {
        "products": products / setup.tensor,
        "attention": attention / _attention_rate(gpu, setup) / setup.tensor,
        "memory": memory / setup.tensor,
        "adapters": _beside(shape, setup, gpu, again) / setup.tensor,
        "loss": loss / setup.tensor,
        "dequantise": _dequantise(shape, setup, gpu, again),
        "launch": _launch(shape, setup, again),
        "traffic": _traffic(shape, setup, gpu, count),
        "offload": _offload(shape, setup, count),
        "step": _step(shape, setup, gpu, count),
    }


def _attention_rate(gpu: GpuKind, setup: Setup) -> float:
    """FLOP/s of flash attention; on Hopper and later the second version reaches a smaller share.

    The first version runs at about half the second's rate (Dao 2023, arXiv:2307.08691).
    """
    newer = gpu.capability[:1] == "9" or gpu.capability.startswith("10.")
    share = FITTED["attention_hopper" if newer else "attention"]
    return gpu.matmul * share * (0.5 if setup.attention == "flash1" else 1.0)


def network(gpu: GpuKind) -> float:
    """Bytes/s that one GPU takes in from other machines.

    What is gathered comes into a machine once, over the adapters of all its GPUs together, and goes
    on over the links within: 400 Gbit/s for each of eight GPUs come with Hopper, 200 with Ampere.
    """
    return MACHINE * (50e9 if gpu.link >= 450e9 else 25e9)


def _again(setup: Setup) -> float:
    """The share of the forward pass that the backward pass computes again."""
    if setup.checkpointing in ("full", "offload"):
        return 1.0
    return FITTED["selective_again"] if setup.checkpointing == "selective" else 0.0


def _passes(setup: Setup, again: float) -> tuple[float, float]:
    """Products with the blocks' weights and with the head, in forward passes.

    Backward is two of them, one for inputs and one for weights; frozen weights need only the first.
    """
    full = setup.method == "full"
    head = 1 + (2 if full or "lm_head" in setup.trained else 1) + (setup.loss == "fused")
    return (3 if full else 2) + again, head


def forward_share(setup: Setup) -> float:
    """The part of a micro batch's time that its forward pass alone takes, by passes."""
    return 1 / _passes(setup, _again(setup))[0]


def _adapter(shape: Shape, setup: Setup) -> int:
    if not setup.adapted:
        return 0
    on_blocks = tuple(target for target in setup.targets if target in LINEARS)
    every = shape.adapter_params(on_blocks, setup.rank, experts=setup.experts_adapted)
    if shape.mixture:
        every = round(every * shape.active_block_params / max(shape.block_params, 1))
    return every


def _beside(shape: Shape, setup: Setup, gpu: GpuKind, again: float) -> float:
    """Adapters are narrow: what they cost is moving inputs and outputs, under autocast in copies.

    Kernels that fuse them (Unsloth's, axolotl's, torch.compile) move a part of it.
    """
    if not setup.adapted:
        return 0.0
    wide = _adapter(shape, setup) / setup.rank * setup.tokens
    moved = FITTED["adapter_traffic"] * wide * (1 + again / 3)
    if not setup.autocast:
        moved *= 0.5
    if setup.fused_blocks or setup.compiled:
        moved *= 0.5
    return moved / gpu.bandwidth


def _dequantise(shape: Shape, setup: Setup, gpu: GpuKind, again: float) -> float:
    """A quantised weight is read, written in 16 bits, and read again, in every pass."""
    if setup.quant == "none":
        return 0.0
    aside = 0 if setup.experts_quantised else shape.expert_params
    moved = (shape.block_params - aside) * (weights.QUANT_BYTES[setup.quant] + 4.0) * (2 + again)
    share = FITTED["dequantise_gptq" if setup.quant == "gptq4" else "dequantise"]
    return moved / setup.tensor / (gpu.bandwidth * share)


def _launch(shape: Shape, setup: Setup, again: float) -> float:
    """The processor's time to launch the kernels of all blocks."""
    names = {"full": "launch_full", "lora": "launch_lora", "qlora": "launch_qlora"}
    each = FITTED[names[setup.method]] * (1 + again / 3) / (1 + 1 / 3)
    looped = setup.experts_looped and not setup.fused_blocks
    if shape.mixture and looped and shape.family not in FUSED_EXPERTS:
        # Hugging Face's blocks go through their experts one by one.
        each *= 1 + FITTED["launch_expert"] * shape.experts
    if setup.compiled:
        each *= FITTED["launch_compiled"]
    if setup.parallelism == "zero3":
        each *= FITTED["launch_zero3"]
    return each * 1e-3 * shape.layers


def _traffic(shape: Shape, setup: Setup, gpu: GpuKind, count: int) -> float:
    """What one GPU sends in a micro batch.

    Fully sharded weights are gathered for each pass and gradients scattered: 16 bits each. Else
    gradients are reduced once in a step, which sends them twice.
    """
    if count < 2:
        return 0.0
    share = (count - 1) / count
    link = gpu.link if count <= MACHINE else min(gpu.link, network(gpu))
    link *= FITTED["link"] if gpu.peer or count > MACHINE else FITTED["bus"]
    trained = weights.trained_params(shape, setup)
    if setup.fsdp or setup.parallelism == "zero3":
        whole = weights.base_bytes(shape, setup) if setup.quant != "none" else 2.0 * shape.params
        gathers = 1 if setup.parallelism == "fsdp_grad_op" else 2
        return share * (gathers * whole + 2.0 * trained) / link
    return share * 2 * 2.0 * trained / setup.grad_accum / link


def _offload(shape: Shape, setup: Setup, count: int) -> float:
    """Weights come over the bus for each pass; gradients go, once in a step."""
    if setup.offload == "none":
        return 0.0
    shards = count if setup.fsdp or setup.deepspeed else 1
    trained = weights.trained_params(shape, setup) / shards
    moved = 4.0 * trained / setup.grad_accum
    if setup.offload == "params":
        moved += 2 * weights.base_bytes(shape, setup) / shards
    return moved / BUS


def _step(shape: Shape, setup: Setup, gpu: GpuKind, count: int) -> float:
    """The optimizer goes once over what it trains; bound by memory, by the processor's if there."""
    held = weights.resident(shape, setup, count)
    optimizer = optimizers.find(setup.optimizer)
    width = 4.0 if setup.deepspeed or setup.precision in ("bf16-amp", "fp32", "fp8") else 2.0
    if setup.offload != "none":
        # The processor's own form goes over it once.
        moved = 3 * width + 2 * optimizer.state_bytes(width)
        return held.trained * moved / PROCESSOR + 0.002
    return held.trained * optimizer.traffic(width) / gpu.bandwidth + 0.002
