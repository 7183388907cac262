"""Published measurements, a row each, as the setups that they were taken with.

The columns are told in docs/estimating.md. A row says what was measured, not which framework's
habits it was measured with; those are taken from its source and its notes, in one table here.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from backends.errors import BadInput
from launcher.estimate import Setup, Shape, shapes
from launcher.estimate.shape import LINEARS
from launcher.gpus import GpuKind
from launcher.gpus import find as gpu_of

Row = Mapping[str, str]


@dataclass(frozen=True)
class Measured:
    """A row that could be read: what was trained how on what, and what was measured.

    value   GiB on a GPU, or tokens/s of a GPU; None where there is none (out of memory)
    metric  alloc, reserved, nvml or unknown for memory; empty for throughput
    """

    row_id: str
    group: str
    shape: Shape
    setup: Setup
    gpu: GpuKind
    count: int
    value: float | None
    metric: str
    fits: bool
    scored: bool
    row: Row = field(repr=False)


PLAIN_BF16 = ("litgpt", "torchtune")
"""Frameworks that train in plain bf16, adapters too, and have a chunked loss by default."""

STAY_IN_16_BITS = ("axolotl", "unsloth")
"""Frameworks that cast a quantised model's embedding and norms back to 16 bits."""

_TARGETS = {
    "c_attn": ("q_proj", "k_proj", "v_proj"),
    "qkv_proj": ("q_proj", "k_proj", "v_proj"),
    "query_key_value": ("q_proj", "k_proj", "v_proj"),
    "Wqkv": ("q_proj", "k_proj", "v_proj"),
    "c_proj": ("o_proj",),
    "dense": ("o_proj",),
    "gate_up_proj": ("gate_proj", "up_proj"),
    "w1": ("gate_proj",),
    "w2": ("down_proj",),
    "w3": ("up_proj",),
    "fc1": ("up_proj",),
    "fc2": ("down_proj",),
    "all-linear": LINEARS,
    "all_linear": LINEARS,
    "all": LINEARS,
    "linear": LINEARS,
}


def read(path: Path) -> list[dict[str, str]]:
    """The rows of a table."""
    with path.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def measured(row: Row) -> Measured:
    """The row as a setup; raises BadInput where its model or GPU is not known."""
    memory = "peak_gib_per_gpu" in row
    value = row.get("peak_gib_per_gpu" if memory else "tokens_per_s_per_gpu") or ""
    shape = _shape(row)
    return Measured(
        row_id=row["row_id"],
        group=row.get("group", ""),
        shape=shape,
        setup=setup_of_row(row),
        gpu=gpu_of(row.get("gpu") or "A100-80GB"),
        count=_whole(row.get("num_gpus"), 1),
        value=float(value) if value else None,
        metric=row.get("metric") or ("unknown" if memory else ""),
        fits=row.get("fits", "1") != "0",
        scored=row.get("scored", "1") == "1",
        row=row,
    )


def _shape(row: Row) -> Shape:
    try:
        shape = shapes.find(row["model"])
    except BadInput:
        if not row.get("params_b"):
            raise
        return shapes.like(float(row["params_b"]), name=row["model"])
    if shape.tied and "litgpt" in row.get("source", "").lower():
        # litgpt gives every model a head of its own.
        return replace(shape, tied=False, params=shape.params + shape.embedding)
    return shape


def _yes(text: str | None) -> bool:
    return (text or "").lower() not in ("", "0", "0.0", "no", "none", "false")


def _whole(text: str | None, otherwise: int) -> int:
    try:
        return max(int(float(text or "")), 1)
    except ValueError:
        return otherwise


def setup_of_row(row: Row) -> Setup:
    """The setup, with the habits of the framework that the source names."""
    source = f"{row.get('source', '')} {row.get('group', '')}".lower()
    notes = row.get("notes", "").lower()
    plain = any(name in source for name in PLAIN_BF16)
    unsloth = "unsloth" in f"{source} {notes}"
    method, quant = _method(row)
    targets, trained = _targets(row.get("lora_targets", ""))
    parallelism, offload = _parallelism(row.get("parallelism", ""))
    count = _whole(row.get("num_gpus"), 1)
    if count > 1 and parallelism == "none":
        parallelism = "ddp"
    if count == 1 and parallelism.startswith("fsdp"):
        parallelism = "none"
    fused = _yes(row.get("liger")) or unsloth or _has(notes, "cut.cross", "cce")
    stock = "stock" if "transformers 5" in source else "stock-4"
    loss = "fused" if fused else "chunked" if "chunked" in notes else stock
    changes: dict[str, Any] = {
        "rank": _whole(row.get("lora_r"), 16),
        "targets": targets,
        "trained": trained,
    }
    return Setup(
        method=method,  # type: ignore[arg-type]
        seq_len=_whole(row.get("seq_len"), 2048),
        micro_batch=_whole(row.get("micro_batch"), 1),
        grad_accum=_accumulation(row, notes, count),
        quant=quant,  # type: ignore[arg-type]
        adapter_bytes=2 if plain and quant == "none" else 4,
        dropout="litgpt" in source,
        packing=row.get("packing") == "1",
        checkpointing=_checkpointing(row.get("grad_ckpt", ""), notes, unsloth),  # type: ignore[arg-type]
        optimizer=_optimizer(row, source, notes),
        precision="fp32"
        if quant != "none" and "litgpt" in source
        else _precision(row, parallelism),  # type: ignore[arg-type]
        parallelism=parallelism,  # type: ignore[arg-type]
        offload=offload,  # type: ignore[arg-type]
        tensor=_tensor(row.get("parallelism", ""), notes, count),
        context=_size(notes, "cp"),
        attention="flash1" if "llm-foundry" in source else _attention(row.get("attn", "")),  # type: ignore[arg-type]
        loss=loss,  # type: ignore[arg-type]
        fused_blocks=fused,
        fused_backward=_has(notes, "optimizer_in_bwd"),
        compiled=_yes(row.get("compile")),
        shard_quant="axolotl" not in source,
        **changes,
    )


def _accumulation(row: Row, notes: str, count: int) -> int:
    """Micro batches of a step; some sources state the global batch instead."""
    if row.get("grad_accum"):
        return _whole(row.get("grad_accum"), 1)
    found = re.search(r"global_batch (\d+)", notes)
    return max(int(found.group(1)) // count // _whole(row.get("micro_batch"), 1), 1) if found else 1


def _has(text: str, *parts: str) -> bool:
    return any(re.search(part, text) for part in parts)


def _size(notes: str, what: str) -> int:
    found = re.search(rf"\b{what}\s*=?\s*(\d+)\b", notes)
    return max(int(found.group(1)), 1) if found else 1


def _method(row: Row) -> tuple[str, str]:
    """The method and the base's quantisation; what is neither full nor an adapter goes by words."""
    method = (row.get("method") or "lora").lower()
    quant = _quant(row.get("base_quant", ""), method)
    if method not in ("full", "lora", "qlora"):
        method = "full" if re.search(r"full|freeze|galore|badam|pretrain", method) else "lora"
    if method == "full":
        return "full", "none"
    return ("lora" if quant == "none" else "qlora"), quant


def _tensor(text: str, notes: str, count: int) -> int:
    """Over how many GPUs a model is cut; layer by layer cuts its memory in the same way."""
    if re.search(r"device_map|naive|pipeline|\bpp", text.lower()):
        return count
    return max(_size(text.lower(), "tp"), _size(notes, "tp"))


def _quant(text: str, method: str) -> str:
    plain = text.lower().replace("_", "").replace("-", "").replace("bnb", "")
    if plain in ("", "none", "bf16", "fp16"):
        return "nf4dq" if method == "qlora" else "none"
    if plain in ("nf4", "nf4dq", "int8"):
        return plain
    if plain in ("fp4", "fp4dq", "4bit"):
        return "nf4dq" if plain.endswith("dq") else "nf4"
    if "8" in plain and "4" not in plain:
        return "int8"
    return "gptq4"


def _targets(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    targets: list[str] = []
    trained: list[str] = []
    for part in re.split(r"[+,;\s]+", text.strip()):
        name = part.rstrip("*")
        if part.endswith("*"):
            trained.append({"wte": "embed_tokens"}.get(name, name))
        elif name:
            targets += _TARGETS.get(name, (name,))
    known = [
        name for name in dict.fromkeys(targets) if name in (*LINEARS, "embed_tokens", "lm_head")
    ]
    return tuple(known) or (LINEARS if targets else ("q_proj", "v_proj")), tuple(trained)


def _parallelism(text: str) -> tuple[str, str]:
    plain = text.lower()
    offload = "none"
    if "offload" in plain:
        offload = (
            "params" if "fsdp" in plain or "zero3" in plain or "param" in plain else "optimizer"
        )
    if "grad_op" in plain:
        return "fsdp_grad_op", offload
    for name in ("zero1", "zero2", "zero3", "fsdp", "ddp"):
        if name in plain.replace("-", "").replace("_", ""):
            return name, offload
    return "none", offload


def _checkpointing(text: str, notes: str, unsloth: bool) -> str:
    plain = text.lower()
    if "selective" in plain:
        return "selective"
    if plain in ("0", "", "false", "none", "no"):
        return "none"
    if "offload" in plain or "unsloth" in plain or "activation offload" in notes or unsloth:
        return "offload"
    return "full"


def _optimizer(row: Row, source: str, notes: str) -> str:
    name = row.get("optimizer") or "adamw_torch"
    if name == "adamw_torch" and "torchtune" in source:
        return "paged_adamw_32bit" if "pagedadamw" in notes else "adamw_torch_fused"
    return name


def _precision(row: Row, parallelism: str) -> str:
    plain = row.get("precision", "").lower()
    if plain in ("fp32", "float32", "32", "tf32"):
        return "fp32"
    if plain == "fp8":
        return "fp8"
    if "true" in plain or "pure" in plain or "full" in plain:
        return "bf16-true"
    if "mixed" in plain and row.get("method") == "full" and parallelism.startswith("fsdp"):
        return "fp8"
    habit = f"{row.get('source', '')} {row.get('group', '')} {row.get('notes', '')}".lower()
    if any(name in habit for name in STAY_IN_16_BITS) and row.get("method") != "full":
        return "bf16-autocast"
    if "fp16" in plain and row.get("method") == "full" and not parallelism.startswith("zero"):
        return "bf16-amp"  # a gradient scaler wants fp32 weights
    if "amp" in plain or "mixed" in plain:
        return "bf16-amp"
    return "bf16-autocast"


def _attention(text: str) -> str:
    plain = text.lower()
    if "eager" in plain:
        return "eager"
    return "flash" if "flash" in plain or "fa" in plain else "sdpa"
