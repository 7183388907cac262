"""How a model is trained: everything but its shape that memory and time depend on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from backends.errors import BadInput

Method = Literal["full", "lora", "qlora"]
Quant = Literal["none", "nf4", "nf4dq", "int8", "gptq4"]
Checkpointing = Literal["none", "full", "selective", "offload"]
Precision = Literal["bf16-true", "bf16-autocast", "bf16-amp", "fp32", "fp8"]
Parallelism = Literal["none", "ddp", "fsdp", "fsdp_grad_op", "zero1", "zero2", "zero3"]
Attention = Literal["flash", "flash1", "sdpa", "eager"]
LossKernel = Literal["stock", "stock-4", "chunked", "fused"]
Offload = Literal["none", "optimizer", "params"]

CHOICES: dict[str, tuple[str, ...]] = {
    "method": ("full", "lora", "qlora"),
    "quant": ("none", "nf4", "nf4dq", "int8", "gptq4"),
    "checkpointing": ("none", "full", "selective", "offload"),
    "precision": ("bf16-true", "bf16-autocast", "bf16-amp", "fp32", "fp8"),
    "parallelism": ("none", "ddp", "fsdp", "fsdp_grad_op", "zero1", "zero2", "zero3"),
    "attention": ("flash", "flash1", "sdpa", "eager"),
    "loss": ("stock", "stock-4", "chunked", "fused"),
    "offload": ("none", "optimizer", "params"),
}


@dataclass(frozen=True)
class Setup:
    """A way to train. The defaults are those of a plain LoRA under Hugging Face's trainer.

    seq_len          tokens of a row as it is fed: the packed or padded length
    micro_batch      rows that one GPU works on at once
    grad_accum       micro batches of an optimizer's step
    rows_per_sample  2 where a sample is a pair (DPO, ORPO, KTO), else 1
    targets          linear layers with an adapter, by Llama's names
    trained          modules trained in full beside the adapter: embed_tokens, lm_head
    trained_share    of the parameters, under full fine-tuning with some frozen
    quant            of the frozen base: nf4dq is nf4 with double quantisation
    shard_quant      quantised weights are sharded too; axolotl's FSDP2 does not
    precision        bf16-true      16-bit weights, no autocast
                     bf16-autocast  16-bit weights under autocast (axolotl's `bf16: true`)
                     bf16-amp       trainable weights in 32 bits, computed in 16
                     The names stand for fp16, too. An adapter's precision is `adapter_bytes`.
    adapter_bytes    of one adapter parameter: 4 as PEFT makes it, 2 where frameworks stay in bf16
    packing          rows are full of tokens, of more than one sample
    fused_blocks     norm and MLP kernels that keep less (Liger, Unsloth, axolotl's LoRA kernels)
    fused_backward   the optimizer steps inside the backward pass, so gradients never pile up
    dropout          the adapter has one, and keeps a mask
    attention        flash is the second version or later, and what torch's sdpa picks does as well;
                     flash1 the first and its Triton relatives; eager writes the scores out
    tensor, context  sizes of tensor and context parallelism
    reference        a frozen second copy of the model is kept (full fine-tuning with DPO)
    experts_looped, experts_adapted, experts_quantised
                     of a mixture: its experts are linear layers, gone through one by one; adapters
                     on the MLP are on them too; quantisation takes them in. Where experts are one
                     tensor (transformers 5) none of it holds unless it is asked for
    eval_batch       rows that are evaluated at once; 0 where nothing is
    """

    method: Method = "lora"
    seq_len: int = 2048
    micro_batch: int = 1
    grad_accum: int = 1
    rank: int = 16
    targets: tuple[str, ...] = ("q_proj", "v_proj")
    trained: tuple[str, ...] = ()
    trained_share: float = 1.0
    quant: Quant = "none"
    shard_quant: bool = True
    adapter_bytes: int = 4
    dropout: bool = False
    packing: bool = True
    checkpointing: Checkpointing = "full"
    optimizer: str = "adamw_torch"
    precision: Precision = "bf16-autocast"
    parallelism: Parallelism = "none"
    offload: Offload = "none"
    tensor: int = 1
    context: int = 1
    attention: Attention = "flash"
    loss: LossKernel = "stock"
    fused_blocks: bool = False
    fused_backward: bool = False
    compiled: bool = False
    rows_per_sample: int = 1
    reference: bool = False
    experts_looped: bool = True
    experts_adapted: bool = True
    experts_quantised: bool = True
    eval_batch: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be, by name."""
        for name, known in CHOICES.items():
            value = getattr(self, name)
            if value not in known:
                raise BadInput(
                    f"{name} cannot be {value!r}", hint=f"it is one of {', '.join(known)}"
                )
        for name in ("seq_len", "micro_batch", "grad_accum", "tensor", "context"):
            if getattr(self, name) < 1:
                raise BadInput(f"{name} is {getattr(self, name)}", hint="it is 1 or more")
        if self.adapted and self.rank < 1:
            raise BadInput(f"the adapter's rank is {self.rank}", hint="it is 1 or more")
        if not 0 < self.trained_share <= 1:
            raise BadInput(f"trained_share is {self.trained_share}", hint="it is over 0, at most 1")

    @property
    def adapted(self) -> bool:
        """An adapter is trained; the base is frozen."""
        return self.method != "full"

    @property
    def autocast(self) -> bool:
        """Operations run under autocast, which copies what it casts."""
        return self.precision in ("bf16-autocast", "bf16-amp") and not self.deepspeed

    @property
    def deepspeed(self) -> bool:
        """ZeRO does its own mixed precision."""
        return self.parallelism.startswith("zero")

    @property
    def fsdp(self) -> bool:
        """Fully sharded, in any form."""
        return self.parallelism.startswith("fsdp")

    @property
    def wide_stream(self) -> bool:
        """The embedding, and so the residual stream, is in 32 bits.

        So it is where fp32 weights are trained under autocast (sharded ones are cast to 16 bits
        before they compute), where `prepare_model_for_kbit_training` (PEFT) has been at a
        quantised model, and, by the peaks that PEFT's own pages report, under its sharded adapters.
        """
        if self.precision == "bf16-amp":
            if self.method == "full":
                return not (self.fsdp or self.deepspeed)
            return self.quant != "none" or self.fsdp or self.deepspeed
        return self.precision == "fp32"

    @property
    def tokens(self) -> int:
        """Tokens that pass through one GPU in a micro batch."""
        return self.micro_batch * self.rows_per_sample * self.seq_len // self.context

    def but(self, **changes: Any) -> Setup:
        """The same with some of it changed."""
        return replace(self, **changes)
