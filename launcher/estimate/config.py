"""An axolotl config as the setup that memory and time follow from.

What a config leaves out is what axolotl 0.19 does then. Nothing of axolotl is imported.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from backends.errors import BadInput, Refused
from launcher.estimate.keys import Config, number, on, section, whole, words
from launcher.estimate.setup import Setup
from launcher.estimate.shape import LINEARS
from launcher.estimate.spreading import fsdp_version, spread

PAIRS = frozenset({"dpo", "ipo", "orpo", "simpo", "cpo", "kto"})
"""Ways to learn from preferences: two rows pass for each sample."""

SAMPLED = frozenset({"grpo", "gdpo", "ebft"})
"""Ways that sample answers from the model, in lengths that nobody knows before."""

MOST_BLOCKS = 200
"""No model has more."""

LIGER_KEYS = ("liger_rms_norm", "liger_glu_activation", "liger_swiglu")

KERNEL_KEYS = ("lora_mlp_kernel", "lora_qkv_kernel", "lora_o_kernel")


def setup_of(config: Config, *, base_dir: Path | None = None) -> Setup:
    """The setup of a config as axolotl reads it; raises Refused with a sentence.

    `base_dir` is where a relative path of a DeepSpeed file starts; one that is not there is judged
    by its name.
    """
    try:
        return _setup(config, base_dir)
    except BadInput as error:
        raise Refused(error.message, hint=error.hint) from error


def _setup(config: Config, base_dir: Path | None) -> Setup:
    method, quant = _method(config)
    parallelism, offload = spread(config, base_dir)
    fsdp2 = parallelism.startswith("fsdp") and fsdp_version(config) == 2
    targets = _targets(config) if method != "full" else ()
    rl = str(config.get("rl") or "").lower()
    if rl in SAMPLED:
        raise BadInput(
            f"rl: {rl} samples answers while it trains, which cannot be estimated",
            hint="name the GPU yourself",
        )
    liger = _plugin(config, "liger")
    return Setup(
        method=method,  # type: ignore[arg-type]
        seq_len=whole(config, "sequence_len", 512),
        micro_batch=whole(config, "micro_batch_size", 1),
        grad_accum=_accumulation(config),
        rank=whole(config, "lora_r", 8) if method != "full" else 1,
        targets=targets,
        trained=_trained(config) if method != "full" else (),
        trained_share=_share(config),
        quant=quant,  # type: ignore[arg-type]
        shard_quant=not fsdp2,
        adapter_bytes=4,
        dropout=method != "full" and number(config, "lora_dropout", 0.0) > 0,
        packing=on(config, "sample_packing"),
        checkpointing=_checkpointing(config),  # type: ignore[arg-type]
        optimizer=str(config.get("optimizer") or "adamw_torch_fused").lower(),
        precision=_precision(config),  # type: ignore[arg-type]
        parallelism=parallelism,  # type: ignore[arg-type]
        offload=offload,  # type: ignore[arg-type]
        tensor=whole(config, "tensor_parallel_size", 1),
        context=_context(config),
        attention=_attention(config),  # type: ignore[arg-type]
        loss=_loss(config, liger),  # type: ignore[arg-type]
        fused_blocks=_fused(config, method, liger),
        compiled=on(config, "torch_compile"),
        rows_per_sample=2 if rl in PAIRS else 1,
        reference=method == "full" and rl in ("dpo", "ipo", "kto"),
        experts_looped=False,
        experts_adapted=bool(config.get("lora_target_parameters")),
        experts_quantised=on(config, "quantize_moe_experts"),
        eval_batch=_evaluation(config),
    )


def _method(config: Config) -> tuple[str, str]:
    adapter = str(config.get("adapter") or "").lower()
    four, eight = on(config, "load_in_4bit"), on(config, "load_in_8bit")
    if adapter in ("", "none"):
        return "full", "none"
    if adapter not in ("lora", "qlora"):
        raise BadInput(
            f"adapter {adapter!r} is none that can be estimated", hint="it is lora, qlora or empty"
        )
    if on(config, "gptq"):
        return "qlora", "gptq4"
    if adapter == "qlora" or four:
        if eight and not four:
            return "qlora", "int8"
        kwargs = section(config, "bnb_config_kwargs")
        double = kwargs.get("bnb_4bit_use_double_quant", True)
        return "qlora", "nf4dq" if double else "nf4"
    return ("qlora", "int8") if eight else ("lora", "none")


def _targets(config: Config) -> tuple[str, ...]:
    """Linear layers that get an adapter; a pattern counts for each name that it can end in."""
    value = config.get("lora_target_modules")
    if isinstance(value, str):
        parts = [value]
    elif isinstance(value, Sequence):
        parts = [each for each in value if isinstance(each, str)]
    else:
        parts = []
    parts += words(config, "lora_target_parameters")
    if on(config, "lora_target_linear") or any(part == "all-linear" for part in parts):
        return LINEARS
    found = [name for name in (*LINEARS, "embed_tokens", "lm_head") if _names(parts, name)]
    if found:
        return tuple(found)
    if parts:
        return LINEARS
    return LINEARS


_OTHER_NAMES = {
    "q_proj": ("query_key_value", "qkv_proj", "c_attn", "Wqkv", "wq"),
    "k_proj": ("query_key_value", "qkv_proj", "c_attn", "Wqkv", "wk"),
    "v_proj": ("query_key_value", "qkv_proj", "c_attn", "Wqkv", "wv"),
    "o_proj": ("dense", "out_proj", "wo"),
    "gate_proj": ("gate_up_proj", "w1"),
    "up_proj": ("gate_up_proj", "w3", "fc1", "dense_h_to_4h"),
    "down_proj": ("w2", "fc2", "dense_4h_to_h"),
}


def _names(parts: Sequence[str], name: str) -> bool:
    """Whether one of `parts` (names, or patterns of them) stands for the layer `name`."""
    for part in parts:
        last = part.rsplit(".", 1)[-1]
        if last == name or last in _OTHER_NAMES.get(name, ()):
            return True
        short = name.removesuffix("_proj")
        inside = re.findall(r"\(([^()]*)\)", part)
        if {name, short} & {word for group in inside for word in group.split("|")}:
            return True
    return False


def _trained(config: Config) -> tuple[str, ...]:
    saved = " ".join(words(config, "lora_modules_to_save"))
    found = []
    if re.search(r"embed_tokens|wte|embeddings?", saved):
        found.append("embed_tokens")
    if "lm_head" in saved:
        found.append("lm_head")
    return tuple(found)


def _share(config: Config) -> float:
    """Of full fine-tuning with `unfrozen_parameters`: a rough share, by the layers they name."""
    patterns = words(config, "unfrozen_parameters")
    if not patterns or config.get("adapter"):
        return 1.0
    text = " ".join(patterns)
    layers = {int(each) for each in re.findall(r"layers?\\?\.(\d+)", text)}
    for first, last in re.findall(r"layers?\\?\.\[?(\d+)\s*[-:]\s*(\d+)", text):
        layers |= set(range(int(first), min(int(last), int(first) + MOST_BLOCKS) + 1))
    if not layers:
        return 0.5 if "layers" in text else 0.1
    return min(max(len(layers) / 32, 0.02), 1.0)


def _accumulation(config: Config) -> int:
    if config.get("gradient_accumulation_steps") is None and config.get("batch_size"):
        return max(whole(config, "batch_size", 1) // whole(config, "micro_batch_size", 1), 1)
    return whole(config, "gradient_accumulation_steps", 1)


def _checkpointing(config: Config) -> str:
    value = config.get("gradient_checkpointing")
    offloading = config.get("activation_offloading")
    if isinstance(value, str) and value.lower() in ("unsloth", "offload", "offload_disk"):
        return "offload"
    sharding = section(config, "fsdp_config")
    by_fsdp = any(
        on(sharding, key) for key in ("activation_checkpointing", "fsdp_activation_checkpointing")
    )
    if not (on(config, "gradient_checkpointing") or by_fsdp):
        return "offload" if offloading else "none"
    return "offload" if offloading else "full"


def _precision(config: Config) -> str:
    bf16 = config.get("bf16")
    if isinstance(bf16, str) and bf16.lower() == "full":
        return "bf16-true"
    if on(config, "bfloat16") or on(config, "float16"):
        return "bf16-true"
    if on(config, "fp8"):
        return "bf16-autocast"
    if bf16 is None and config.get("fp16") is None:
        return "bf16-autocast"
    return "bf16-autocast" if on(config, "bf16") or on(config, "fp16") else "fp32"


def _attention(config: Config) -> str:
    named = str(config.get("attn_implementation") or "").lower()
    if on(config, "eager_attention") or named == "eager":
        return "eager"
    if on(config, "flash_attention") or "flash" in named or on(config, "flex_attention"):
        return "flash"
    return "sdpa"


def _plugin(config: Config, name: str) -> bool:
    return any(name in plugin.lower() for plugin in words(config, "plugins"))


def _loss(config: Config, liger: bool) -> str:
    cut = _plugin(config, "cut_cross_entropy") and config.get("cut_cross_entropy") is not False
    if cut or on(config, "cut_cross_entropy") or on(config, "unsloth_cross_entropy_loss"):
        return "fused"
    if liger and on(config, "liger_fused_linear_cross_entropy"):
        return "fused"
    return "chunked" if on(config, "chunked_cross_entropy") else "stock"


def _fused(config: Config, method: str, liger: bool) -> bool:
    """Whether kernels that keep less are used: Liger's, or axolotl's own for adapters.

    It turns those on by itself where no key of theirs is set and nothing speaks against them.
    """
    if liger and any(on(config, key) for key in LIGER_KEYS):
        return True
    if method == "full":
        return False
    if any(config.get(key) is not None for key in KERNEL_KEYS):
        return any(on(config, key) for key in KERNEL_KEYS)
    against = ("rl", "trust_remote_code", "load_in_8bit")
    return not any(on(config, key) for key in against)


def _context(config: Config) -> int:
    if config.get("context_parallel_size") is not None:
        return whole(config, "context_parallel_size", 1)
    return whole(config, "sequence_parallel_degree", 1)


def _evaluation(config: Config) -> int:
    share = number(config, "val_set_size", 0.0)
    if share <= 0 and not config.get("test_datasets"):
        return 0
    return whole(config, "eval_batch_size", whole(config, "micro_batch_size", 1))
