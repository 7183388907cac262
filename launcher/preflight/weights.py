"""Combinations of adapters, numbers of bits, attention, optimizers and sharding; see `together`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from launcher.preflight.keys import has_user_plugins
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
_ADAPTERS = ("lora", "qlora", "llama-adapter")
LORA_KERNELS = ("lora_mlp_kernel", "lora_qkv_kernel", "lora_o_kernel")
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


def adapter(look: Look) -> Iterator[Problem]:
    """Adapters, and how the model below them is loaded."""
    name = look.config.get("adapter")
    if isinstance(name, str) and name and name not in _ADAPTERS:
        make = look.warning if has_user_plugins(look) or look.config.get("plugins") else look.error
        yield make(
            ("adapter",),
            f"there is no adapter {quoted(name)}: axolotl refuses it, unless a plugin brings it",
            did_you_mean(name, _ADAPTERS) or "use lora or qlora; to train all weights, remove it",
        )
    yield from clashes(look, _ADAPTER)
    if not name:
        kept = [
            key for key in ("lora_r", "lora_alpha", "lora_target_linear") if look.config.get(key)
        ]
        if kept:
            yield look.warning(
                (kept[0],),
                f"{kept[0]} is for an adapter, and there is none: all weights would be trained",
                "add adapter: lora, or remove what begins with lora_",
            )


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


def _lora(config: Config) -> bool:
    return config.get("adapter") in {"lora", "qlora"} and not config.get("lora_model_dir")


def _fsdp2(config: Config) -> bool:
    inside = config.get("fsdp_config") or {}
    said = config.get("fsdp_version") or inside.get("fsdp_version") or inside.get("version")
    return str(said) == "2"


_FULL = "without an adapter all weights are trained, and those of {} cannot be: axolotl refuses it"

_ADAPTER = (
    Rule(
        "load_in_4bit",
        without("load_in_4bit", "adapter"),
        _FULL.format("a model in 4 bits"),
        "add adapter: qlora, or say load_in_4bit: false",
    ),
    Rule(
        "load_in_8bit",
        without("load_in_8bit", "adapter"),
        _FULL.format("a model in 8 bits"),
        "add adapter: lora, or say load_in_8bit: false",
    ),
    Rule(
        "load_in_8bit",
        one_of("load_in_4bit", "load_in_8bit"),
        "load_in_4bit and load_in_8bit cannot both be: loading the model fails",
        "keep one of the two",
    ),
    Rule(
        "adapter",
        lambda c: (
            c.get("adapter") == "qlora"
            and not c.get("load_in_4bit")
            and not c.get("load_in_8bit")
            and not c.get("merge_lora")
        ),
        "adapter: qlora needs load_in_4bit: true: axolotl refuses it",
        "add load_in_4bit: true, or say adapter: lora",
    ),
    Rule(
        "load_in_8bit",
        lambda c: (
            c.get("adapter") == "qlora" and c.get("load_in_8bit") and not c.get("load_in_4bit")
        ),
        "adapter: qlora is for 4 bits, not 8: axolotl refuses it",
        "say load_in_4bit: true in its place, or adapter: lora",
    ),
    Rule(
        "gptq",
        lambda c: c.get("adapter") == "qlora" and c.get("gptq"),
        f"adapter: qlora does not go with gptq: {_REFUSES}",
        "say adapter: lora",
    ),
    Rule(
        "adapter",
        lambda c: _lora(c) and c.get("lora_r") is None,
        "lora_r is missing: axolotl takes that, and making the adapter fails",
        "add lora_r: 16",
    ),
    Rule(
        "adapter",
        lambda c: _lora(c) and c.get("lora_r") is not None and c.get("lora_alpha") is None,
        "lora_alpha is missing: axolotl takes that, and making the adapter fails",
        "add lora_alpha: 32",
    ),
    Rule(
        "adapter",
        lambda c: (
            _lora(c)
            and not c.get("lora_target_linear")
            and not c.get("lora_target_modules")
            and not c.get("lora_target_parameters")
        ),
        "nothing says which layers get the adapter: making it fails",
        "add lora_target_linear: true",
    ),
    Rule(
        "lora_dropout",
        one_of("lora_target_parameters", "lora_dropout"),
        "lora_dropout must be 0 with lora_target_parameters: axolotl refuses it",
        "say lora_dropout: 0",
    ),
    Rule(
        "peft_layers_pattern",
        without("peft_layers_pattern", "peft_layers_to_transform"),
        "peft_layers_pattern needs peft_layers_to_transform: axolotl refuses it",
        "add peft_layers_to_transform, or remove it",
    ),
    Rule(
        "unfrozen_parameters",
        one_of("adapter", "peft_layers_to_transform", "unfrozen_parameters"),
        f"unfrozen_parameters does not go with peft_layers_to_transform: {_REFUSES}",
        "keep one of the two",
    ),
    Rule(
        "loraplus_lr_ratio",
        one_of("lr_groups", "loraplus_lr_ratio"),
        f"loraplus_lr_ratio does not go with lr_groups: {_REFUSES}",
        "keep one of the two",
    ),
    Rule(
        "lora_mlp_kernel",
        lambda c: (
            c.get("adapter") == "lora"
            and c.get("load_in_8bit")
            and any(c.get(key) for key in LORA_KERNELS)
        ),
        "the fused LoRA kernels do not work on 8 bits: axolotl refuses it",
        "say lora_mlp_kernel: false, lora_qkv_kernel: false and lora_o_kernel: false",
    ),
    Rule(
        "trust_remote_code",
        lambda c: c.get("trust_remote_code") and any(c.get(key) for key in LORA_KERNELS),
        f"trust_remote_code does not go with the fused LoRA kernels: {_REFUSES}",
        "say lora_mlp_kernel: false, lora_qkv_kernel: false and lora_o_kernel: false",
    ),
    Rule(
        "relora",
        without("relora", "jagged_restart_steps"),
        "relora needs jagged_restart_steps: axolotl refuses it",
        "add jagged_restart_steps: 150",
    ),
    Rule(
        "relora",
        lambda c: c.get("relora") and not c.get("adapter"),
        "relora needs an adapter: axolotl refuses it",
        "add adapter: lora",
    ),
    Rule(
        "relora",
        lambda c: c.get("relora") and (c.get("fsdp") or c.get("fsdp_config") or c.get("deepspeed")),
        "relora does not go with fsdp or deepspeed: axolotl refuses it",
        "remove deepspeed and fsdp",
    ),
    Rule(
        "flash_attn_fuse_mlp",
        lambda c: c.get("adapter") in {"lora", "qlora"} and c.get("flash_attn_fuse_mlp"),
        f"flash_attn_fuse_mlp does not go with an adapter: {_REFUSES}",
        "remove flash_attn_fuse_mlp",
    ),
    Rule(
        "model_quantization_config",
        lambda c: (
            c.get("model_quantization_config") and (c.get("load_in_8bit") or c.get("load_in_4bit"))
        ),
        f"model_quantization_config does not go with load_in_4bit or load_in_8bit: {_REFUSES}",
        "remove load_in_4bit and load_in_8bit",
    ),
)

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
