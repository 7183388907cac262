"""Count what PyTorch keeps of a training step, and hold the estimator's rules against it.

    PYTHON-OF-THE-MANAGED-ENVIRONMENT scripts/count_activations.py

Runs Hugging Face's Llama blocks, small, on the CPU, and follows every storage from its making to
its end. What one block keeps is the difference between a model of six blocks and one of two; what
depends on the MLP's width is the difference between two widths. Prints bytes of a token per block,
as multiples of the hidden width (h) and the MLP's (i), and the estimator's own figure beside them.
"""

from __future__ import annotations

import sys
import warnings
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from transformers import LlamaConfig, LlamaForCausalLM

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from launcher.estimate import Setup, Shape, activations
from launcher.estimate.shape import LINEARS

HIDDEN, WIDTHS, BLOCKS, TOKENS, VOCAB = 512, (1536, 3072), (2, 6), (2, 128), 4096

QV = ("q_proj", "v_proj")
CASES: dict[str, Setup] = {
    "full, bf16": Setup(method="full", precision="bf16-true"),
    "full, bf16, eager": Setup(method="full", precision="bf16-true", attention="eager"),
    "full, fp32": Setup(method="full", precision="fp32"),
    "full, bf16, checkpointed": Setup(method="full", precision="bf16-true"),
    "LoRA q+v, autocast": Setup(targets=QV),
    "LoRA all, autocast": Setup(targets=LINEARS),
    "LoRA all, bf16": Setup(targets=LINEARS, precision="bf16-true", adapter_bytes=2),
    "LoRA all, autocast, checkpointed": Setup(targets=LINEARS),
}


class Alive(TorchDispatchMode):  # type: ignore[misc]
    """Bytes of all storages that are alive."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0
        self._seen: dict[int, int] = {}

    def add(self, tensor: Any) -> None:
        """Count a tensor's storage until it ends."""
        if not isinstance(tensor, torch.Tensor):
            return
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()  # noqa: SLF001 - its only identity
        if key in self._seen:
            return
        self._seen[key] = size
        self.bytes += size
        weakref.finalize(storage, self._gone, key, size)

    def _gone(self, key: int, size: int) -> None:
        self.bytes -= size
        self._seen.pop(key, None)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for tensor in tree_iter(found):
            self.add(tensor)
        return found


def kept(setup: Setup, blocks: int, width: int) -> int:
    """Bytes that the forward pass of a model leaves behind."""
    config = LlamaConfig(
        hidden_size=HIDDEN,
        intermediate_size=width,
        num_attention_heads=8,
        num_key_value_heads=8,
        num_hidden_layers=blocks,
        vocab_size=VOCAB,
        attn_implementation="eager" if setup.attention == "eager" else "sdpa",
        use_cache=False,
    )
    alive = Alive()
    with alive:
        torch.set_default_dtype(torch.float32 if setup.precision == "fp32" else torch.bfloat16)
        model: Any = LlamaForCausalLM(config)
        torch.set_default_dtype(torch.float32)
        if setup.adapted:
            lora = LoraConfig(r=setup.rank, target_modules=list(setup.targets), lora_dropout=0.0)
            model = get_peft_model(model, lora, autocast_adapter_dtype=setup.adapter_bytes == 4)
            model.enable_input_require_grads()
        if setup.checkpointing == "full":
            model.gradient_checkpointing_enable({"use_reentrant": False})
        model.train()
        ids = torch.zeros(TOKENS, dtype=torch.long)
        before = alive.bytes
        with torch.autocast("cpu", torch.bfloat16, enabled=setup.autocast):
            out = model(input_ids=ids, labels=ids)
        after = alive.bytes
        del out
    return after - before


def main() -> None:
    """Print the table."""
    warnings.filterwarnings("ignore")
    print(f"{'':<36}{'counted':>16}{'estimated':>18}")
    for name, asked in CASES.items():
        setup = asked.but(
            rank=4,
            seq_len=TOKENS[1],
            micro_batch=TOKENS[0],
            checkpointing="full" if "checkpointed" in name else "none",
        )
        counted = []
        for width in WIDTHS:
            few, many = (kept(setup, blocks, width) for blocks in BLOCKS)
            counted.append((many - few) / (BLOCKS[1] - BLOCKS[0]) / (TOKENS[0] * TOKENS[1]))
        told = [activations.kept(replace(_shape(), intermediate=each), setup) for each in WIDTHS]
        print(f"{name:<36}{_as_multiples(counted):>16}{_as_multiples(told):>18}", flush=True)


def _as_multiples(found: list[float]) -> str:
    per_width = (found[1] - found[0]) / (WIDTHS[1] - WIDTHS[0])
    return f"{(found[0] - per_width * WIDTHS[0]) / HIDDEN:.1f} h + {per_width:.1f} i"


def _shape() -> Shape:
    return Shape("small", HIDDEN, 1, 8, 8, 64, WIDTHS[0], VOCAB, False, 10**8, 10**8)


if __name__ == "__main__":
    main()
