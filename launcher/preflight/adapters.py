"""Combinations of adapters and numbers of bits; see `together`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from launcher.preflight.keys import has_user_plugins
from launcher.preflight.problem import Look, Problem
from launcher.preflight.together import Rule, clashes, one_of, without
from launcher.wording import did_you_mean, quoted

Config = Mapping[str, Any]

LORA_KERNELS = ("lora_mlp_kernel", "lora_qkv_kernel", "lora_o_kernel")
_ADAPTERS = ("lora", "qlora", "llama-adapter")
_REFUSES = "axolotl refuses the two together"


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


_LAYERS = {
    *("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "qkv_proj"),
    *("gate_up_proj", "out_proj", "c_attn", "c_proj", "c_fc", "query_key_value", "dense"),
    *("dense_h_to_4h", "dense_4h_to_h", "fc1", "fc2", "Wqkv", "wq", "wk", "wv", "wo", "w1", "w2"),
    *("w3", "in_proj", "x_proj", "dt_proj", "embed_tokens", "lm_head", "q_a_proj", "q_b_proj"),
    *("kv_a_proj_with_mqa", "kv_b_proj", "linear_attn", "shared_expert", "experts"),
}
"""What the layers of the usual models are called."""


def layers(look: Look) -> Iterator[Problem]:
    """Names of layers that are nearly, and not quite, those of the usual models."""
    named = look.config.get("lora_target_modules")
    for index, name in enumerate(named if isinstance(named, list) else []):
        if isinstance(name, str) and name.isidentifier() and name not in _LAYERS:
            near = did_you_mean(name, _LAYERS)
            if near:
                yield look.warning(
                    ("lora_target_modules", index),
                    f"no usual model has a layer {quoted(name)}: it would be passed over, or fail",
                    near,
                )


def _lora(config: Config) -> bool:
    return config.get("adapter") in {"lora", "qlora"} and not config.get("lora_model_dir")


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
