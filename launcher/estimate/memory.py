"""The most memory a training takes on one GPU.

The peak is what is always there, and the largest of the phases of a step: the loss, the backward
pass of a block, the last gradients, the optimizer's step. Every quantity is bytes on one GPU;
the estimate speaks GiB.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from launcher.estimate import activations, weights
from launcher.estimate.fitted import FITTED
from launcher.estimate.ranges import Range
from launcher.estimate.setup import Setup
from launcher.estimate.shape import Shape
from launcher.gpus import GpuKind

GIB = float(2**30)

Verdict = Literal["fits", "tight", "no"]


@dataclass(frozen=True)
class MemoryEstimate:
    """GiB on one GPU at the worst moment.

    alloc     of tensors (`torch.cuda.max_memory_allocated`)
    reserved  what PyTorch's allocator holds (`max_memory_reserved`)
    nvml      what the driver shows (`nvidia-smi`), context included
    usable    what the GPU has
    verdict   fits; tight: the upper end of the range does not fit; no: the middle does not
    phase     the moment of the peak: loss, backward, gradients, step or eval
    terms     GiB by name, at that moment
    """

    alloc: Range
    reserved: Range
    nvml: Range
    usable: float
    verdict: Verdict
    phase: str
    terms: dict[str, float]


def loss_bytes(shape: Shape, setup: Setup) -> float:
    """Bytes of one token at the head and the loss.

    A stock loss has the logits in fp32, their softmax and the gradient of it, as transformers 5
    has it; `stock-4`, that of transformers 4, has them in 16 bits as well, and autocast keeps one
    more fp32 copy for the caller. A chunked one has the logits in 16 bits and the rest of one
    chunk; fused ones (Liger, cut cross-entropy) never have them whole.
    """
    logits = shape.vocab / setup.tensor
    hidden = 2.0 * activations.residual_bytes(setup) * shape.hidden
    if "lm_head" in setup.targets:
        # The adapter's logits, and their sum with the frozen ones.
        hidden += 4.0 * logits
    if setup.loss == "fused":
        return 8.0 * shape.hidden + hidden
    if setup.loss == "chunked":
        return FITTED["loss_chunked"] * logits + hidden
    if setup.loss == "stock":
        return FITTED["loss_stock"] * logits + hidden
    if setup.autocast:
        return (FITTED["loss_stock_4"] + FITTED["loss_autocast"]) * logits + hidden
    if shape.family in LOSS_IN_16_BITS:
        return 8.0 * logits + hidden
    return FITTED["loss_stock_4"] * logits + hidden


LOSS_IN_16_BITS = frozenset({"qwen", "baichuan", "internlm"})
"""Families whose own code computes the loss in the logits' type, outside autocast: logits, the
shifted copy, the softmax and its gradient are 2 bytes each."""


def _head_gradient(shape: Shape, setup: Setup) -> float:
    """The head's gradient; a chunked loss adds each chunk's to the sum of those before."""
    if setup.method == "full" or "lm_head" in setup.trained:
        copies = 2 if setup.loss == "chunked" else 1
        return 2.0 * copies * shape.embedding / setup.tensor
    return 0.0


def memory(shape: Shape, setup: Setup, gpu: GpuKind, count: int = 1) -> MemoryEstimate:
    """The peak on each of `count` GPUs of a kind."""
    terms, phase = peak(shape, setup, count)
    return _told(terms, phase, gpu, count, _lost(shape, setup))


def peak(shape: Shape, setup: Setup, count: int) -> tuple[dict[str, float], str]:
    """The terms in bytes at the worst moment, by name, and the moment's name."""
    held = weights.resident(shape, setup, count)
    tokens = setup.tokens
    split = setup.tensor
    kept = activations.kept(shape, setup) * tokens / split
    block = activations.again(shape, setup) * tokens / split
    loss = loss_bytes(shape, setup) * tokens + _head_gradient(shape, setup)
    before = held.gradients if setup.grad_accum > 1 and not setup.fused_backward else 0.0
    cast = _cast(shape, setup)
    buffer = _dequantised(shape, setup)
    moments = {
        "loss": (kept, loss, before, cast),
        "backward": (kept, block + buffer, max(before, _head_gradient(shape, setup)), cast),
        "gradients": (kept / shape.layers, block + buffer, held.gradients, 0.0),
        "step": (0.0, held.step, held.gradients, 0.0),
        "eval": (0.0, _evaluation(shape, setup), before, 0.0),
    }
    gathered = {name: held.gathered if name != "step" else 0.0 for name in moments}
    worst = max(moments, key=lambda name: sum(moments[name]) + gathered[name])
    kept_now, working, gradients, cast_now = moments[worst]
    return {
        "weights": held.weights,
        "adapter": held.adapter,
        "optimizer": held.optimizer,
        "gradients": gradients,
        "activations": kept_now,
        "working": working + cast_now,
        "gathered": gathered[worst],
        "libraries": FITTED["workspace"] * GIB,
    }, worst


def _evaluation(shape: Shape, setup: Setup) -> float:
    """Evaluation keeps no activations; its logits are there in 16 bits and in fp32, two copies."""
    if setup.eval_batch == 0:
        return 0.0
    tokens = setup.eval_batch * setup.rows_per_sample * setup.seq_len / setup.context
    logits = 0.0 if setup.loss == "fused" else 10.0 * shape.vocab
    return tokens * (logits + activations.passing(shape, setup)) / setup.tensor


def _cast(shape: Shape, setup: Setup) -> float:
    """Autocast keeps a 16-bit copy of fp32 weights until the forward pass ends."""
    wide = setup.method == "full" and setup.precision == "bf16-amp"
    if not wide or setup.fsdp or setup.deepspeed or setup.checkpointing == "full":
        return 0.0
    return 2.0 * shape.params


def _dequantised(shape: Shape, setup: Setup) -> float:
    """The largest quantised weight, in 16 bits, while it is multiplied with."""
    if setup.quant == "none":
        return 0.0
    widest = shape.hidden * max(shape.intermediate, shape.query_width)
    return 2.0 * widest / setup.tensor


def corrected(estimate: MemoryEstimate, change: Callable[[Range], Range]) -> MemoryEstimate:
    """The estimate with its bytes of tensors changed by what was measured, and the rest with them.

    change  maps the range of `alloc`; what the driver holds besides stays as it is
    """
    context = estimate.nvml.middle - estimate.reserved.middle
    alloc = change(estimate.alloc)
    slack = estimate.reserved.middle / estimate.alloc.middle
    reserved = alloc * slack
    nvml = Range(reserved.low + context, reserved.middle + context, reserved.high + context)
    return replace(
        estimate,
        alloc=alloc,
        reserved=reserved,
        nvml=nvml,
        verdict=_verdict(alloc.middle, context, nvml.high, estimate.usable),
    )


def _verdict(alloc: float, context: float, nvml_high: float, usable: float) -> Verdict:
    if alloc * FITTED["tight"] + context > usable:
        return "no"
    return "tight" if nvml_high > usable else "fits"


def _lost(shape: Shape, setup: Setup) -> tuple[float, float]:
    """What the allocator holds over what is asked of it: a factor, and GiB.

    With adapters little changes size from step to step but the logits: pieces of theirs stay.
    """
    if setup.loss == "stock" and setup.adapted:
        logits = shape.vocab * setup.tokens / setup.tensor
        return FITTED["reserved_adapter"], FITTED["reserved_logit"] * logits / GIB
    return FITTED["reserved"], 0.0


def _told(
    terms: dict[str, float], phase: str, gpu: GpuKind, count: int, lost: tuple[float, float]
) -> MemoryEstimate:
    """The estimate from the peak's bytes: the allocator's share, the context, the verdict."""
    alloc = sum(terms.values()) / GIB
    reserved = alloc * lost[0] + lost[1]
    context = FITTED["context"] + (FITTED["nccl"] if count > 1 else 0.0)
    nvml = reserved + context
    several = "_many" if count > 1 else ""
    low, high = FITTED[f"memory_low{several}"], FITTED[f"memory_high{several}"]
    # The allocator gives back what it caches before it gives up.
    verdict = _verdict(alloc, context, nvml * high, gpu.usable_gib)
    return MemoryEstimate(
        alloc=Range(alloc * low, alloc, alloc * high),
        reserved=Range(reserved * low, reserved, reserved * high),
        nvml=Range(nvml * low, nvml, nvml * high),
        usable=gpu.usable_gib,
        verdict=verdict,
        phase=phase,
        terms={name: each / GIB for name, each in terms.items()},
    )
