"""Combinations of attention, optimizers and sharding; see `together`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from launcher.preflight.problem import Look, Problem
from launcher.preflight.together import Rule, clashes, one_of, without
from launcher.wording import did_you_mean, quoted

Config = Mapping[str, Any]

ATTENTION_FLAGS = {
    "xformers_attention": "xformers",
    "sage_attention": "sage",
    "flex_attention": "flex_attention",
    "flash_attention": "flash_attention_2",
    "sdp_attention": "sdpa",
    "eager_attention": "eager",
}
"""The older switches, in axolotl's order of preference, and what they are called now."""

_ATTENTIONS = {
    *ATTENTION_FLAGS.values(),
    *("flash_attention_3", "flash_attention_4", "flash_attention_torch", "fp8"),
}
_SHORT = {"flash": "flash_attention_2", "flex": "flex_attention", "sdp": "sdpa"}
_CROSS_ENTROPIES = (
    *("cut_cross_entropy", "chunked_cross_entropy", "liger_cross_entropy"),
    "liger_fused_linear_cross_entropy",
)
_REFUSES = "axolotl refuses the two together"


def attention_of(config: Config) -> str | None:
    """The attention that axolotl settles on; None when the recipe leaves it open."""
    said = config.get("attn_implementation")
    flags = (name for flag, name in ATTENTION_FLAGS.items() if config.get(flag))
    return str(said).split("@")[0].split(":")[0] if said else next(flags, None)


def attention(look: Look) -> Iterator[Problem]:
    """The kind of attention, and what needs one of a certain kind."""
    said = look.config.get("attn_implementation")
    if isinstance(said, str) and "/" not in said and said not in _ATTENTIONS:
        near = did_you_mean(_SHORT.get(said, said), _ATTENTIONS)
        yield look.error(
            ("attn_implementation",),
            f"there is no attn_implementation {quoted(said)}: axolotl refuses it",
            near or f"one of {', '.join(sorted(_ATTENTIONS))}",
        )
    flags = [flag for flag in ATTENTION_FLAGS if look.config.get(flag)]
    if said and flags:
        yield look.error(
            (flags[0],),
            f"{flags[0]} and attn_implementation say the same twice: {_REFUSES}",
            f"remove {flags[0]}",
        )
    elif len(flags) > 1:
        yield look.warning(
            (flags[1],),
            f"{flags[0]} and {flags[1]} are both on: axolotl takes {flags[0]}",
            "keep one of the two",
        )
    yield from clashes(look, _ATTENTION)


def running(look: Look) -> Iterator[Problem]:
    """Optimizers, sharding, memory and the number formats."""
    yield from clashes(look, _RUNNING)
    on = [key for key in _CROSS_ENTROPIES if look.config.get(key)]
    if len(on) > 1:
        yield look.error(
            (on[1],), f"{on[0]} and {on[1]} do the same: {_REFUSES}", "keep one of the two"
        )


def _fsdp2(config: Config) -> bool:
    inside = config.get("fsdp_config") or {}
    said = config.get("fsdp_version") or inside.get("fsdp_version") or inside.get("version")
    return str(said) == "2"


_ATTENTION = (
    Rule(
        "sample_packing",
        lambda c: c.get("sample_packing") and attention_of(c) is None,
        "sample_packing without a kind of attention lets packed rows see each other; axolotl "
        "only warns, and trains",
        "add attn_implementation: flash_attention_2, flex_attention or sdpa",
        "warning",
    ),
    Rule(
        "scaling_softmax",
        lambda c: c.get("scaling_softmax") and attention_of(c) != "flex_attention",
        "scaling_softmax needs flex attention: axolotl refuses it",
        "add attn_implementation: flex_attention",
    ),
    Rule(
        "context_parallel_size",
        lambda c: (
            int(c.get("context_parallel_size") or 1) > 1
            and attention_of(c) not in {"flash_attention_2", "kernels-community/flash-attn2"}
        ),
        "context_parallel_size above 1 needs flash attention 2: axolotl refuses it",
        "add attn_implementation: flash_attention_2",
    ),
    Rule(
        "micro_batch_size",
        lambda c: (
            int(c.get("context_parallel_size") or 1) > 1
            and c.get("sample_packing")
            and int(c.get("micro_batch_size") or 1) > 1
        ),
        "context_parallel_size with sample_packing takes one row at a time: axolotl refuses more",
        "say micro_batch_size: 1",
    ),
    Rule(
        "batch_flattening",
        lambda c: c.get("batch_flattening") is True and c.get("sample_packing"),
        f"batch_flattening does not go with sample_packing: {_REFUSES}",
        "remove batch_flattening",
    ),
    Rule(
        "batch_flattening",
        lambda c: (
            c.get("batch_flattening") is True and attention_of(c) in {None, "sdpa", "eager", "fp8"}
        ),
        "batch_flattening needs flash or flex attention: axolotl refuses it",
        "add attn_implementation: flash_attention_2",
    ),
)

_RUNNING = (
    Rule(
        "fp16",
        lambda c: c.get("bf16") is True and c.get("fp16") is True,
        "bf16 and fp16 are both on: axolotl takes bf16",
        "keep one of the two",
        "warning",
    ),
    Rule(
        "fsdp",
        one_of("deepspeed", "fsdp"),
        f"deepspeed and fsdp both spread the model: {_REFUSES}",
        "keep one of the two",
    ),
    Rule(
        "fsdp_config",
        one_of("deepspeed", "fsdp_config"),
        "deepspeed and fsdp_config both spread the model: the launcher cannot do both",
        "keep one of the two",
    ),
    Rule(
        "max_memory",
        lambda c: c.get("max_memory") is not None and c.get("gpu_memory_limit") is not None,
        f"max_memory and gpu_memory_limit say the same twice: {_REFUSES}",
        "keep one of the two",
    ),
    Rule(
        "activation_offloading",
        without("activation_offloading", "gradient_checkpointing"),
        "activation_offloading needs gradient_checkpointing: axolotl refuses it",
        "add gradient_checkpointing: true",
    ),
    Rule(
        "selective_checkpointing",
        without("selective_checkpointing", "gradient_checkpointing"),
        "selective_checkpointing needs gradient_checkpointing: axolotl refuses it",
        "add gradient_checkpointing: true",
    ),
    Rule(
        "gradient_checkpointing_kwargs",
        lambda c: (
            c.get("unfrozen_parameters")
            and (c.get("gradient_checkpointing_kwargs") or {}).get("use_reentrant") is True
        ),
        f"use_reentrant: true does not go with unfrozen_parameters: {_REFUSES}",
        "say gradient_checkpointing_kwargs: {use_reentrant: false}",
    ),
    Rule(
        "fp8_config",
        lambda c: c.get("fp8_config") is not None and not c.get("fp8"),
        "fp8_config needs fp8: true: axolotl refuses it",
        "add fp8: true, or remove fp8_config",
    ),
    Rule(
        "fp8_enable_fsdp_float8_all_gather",
        lambda c: c.get("fp8_enable_fsdp_float8_all_gather") and not _fsdp2(c),
        "fp8_enable_fsdp_float8_all_gather needs fsdp_version: 2: axolotl refuses it",
        "add fsdp_version: 2",
    ),
    Rule(
        "torch_compile_options",
        lambda c: c.get("torch_compile_options") is not None and not c.get("torch_compile"),
        "torch_compile_options needs torch_compile: true: axolotl refuses it",
        "add torch_compile: true",
    ),
    Rule(
        "optimizer",
        lambda c: str(c.get("optimizer")) == "muon" and c.get("deepspeed"),
        "the optimizer muon does not go with deepspeed: axolotl refuses the two together",
        "take another optimizer, or fsdp_version: 2",
    ),
    Rule(
        "optimizer",
        lambda c: str(c.get("optimizer") or "").startswith("flash_") and c.get("deepspeed"),
        "the flash_ optimizers do not go with deepspeed: axolotl refuses the two together",
        "take another optimizer, or fsdp_version: 2",
    ),
    Rule(
        "optimizer",
        lambda c: (
            c.get("optimizer") in {"adamw_8bit", "adamw_bnb_8bit"}
            and c.get("fsdp_config")
            and _fsdp2(c)
        ),
        "this 8-bit optimizer does not go with FSDP2: axolotl refuses it",
        "say optimizer: adamw_torch_8bit",
    ),
    Rule(
        "optimizer",
        lambda c: c.get("optimizer") == "polora" and c.get("adapter") not in {"lora", "qlora"},
        "the optimizer polora trains adapters only: axolotl refuses it",
        "add adapter: lora, or take another optimizer",
    ),
    Rule(
        "optimizer",
        lambda c: c.get("optimizer") == "q_galore_adamw8bit" and c.get("adapter"),
        "the optimizer q_galore_adamw8bit does not go with an adapter: axolotl refuses it",
        "remove adapter, or take another optimizer",
    ),
    Rule(
        "optimizer",
        lambda c: (
            int(c.get("tensor_parallel_size") or 1) > 1
            and c.get("optimizer") in {"paged_adamw_8bit", "adamw_8bit", "adamw_bnb_8bit"}
        ),
        "this 8-bit optimizer does not go with tensor_parallel_size: axolotl refuses it",
        "say optimizer: adamw_torch_fused",
    ),
    Rule(
        "deepcompile",
        without("deepcompile", "deepspeed"),
        "deepcompile needs deepspeed: axolotl refuses it",
        "add deepspeed: deepspeed_configs/zero2.json, or remove deepcompile",
    ),
)
