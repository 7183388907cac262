"""An axolotl config as the setup that memory and time follow from.

What a config leaves out is what axolotl 0.19 does then. Nothing of axolotl is imported.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from backends.errors import BadInput, Refused
from launcher.estimate.setup import Setup
from launcher.estimate.shape import LINEARS

Config = Mapping[str, Any]

PAIRS = frozenset({"dpo", "ipo", "orpo", "simpo", "cpo", "kto"})
"""Ways to learn from preferences: two rows pass for each sample."""

SAMPLED = frozenset({"grpo", "gdpo", "ebft"})
"""Ways that sample answers from the model, in lengths that nobody knows before."""

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
    parallelism, offload = _parallelism(config, base_dir)
    fsdp2 = parallelism.startswith("fsdp") and _fsdp_version(config) == 2
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
        seq_len=_whole(config, "sequence_len", 512),
        micro_batch=_whole(config, "micro_batch_size", 1),
        grad_accum=_accumulation(config),
        rank=_whole(config, "lora_r", 8) if method != "full" else 1,
        targets=targets,
        trained=_trained(config) if method != "full" else (),
        trained_share=_share(config),
        quant=quant,  # type: ignore[arg-type]
        shard_quant=not fsdp2,
        adapter_bytes=4,
        dropout=method != "full" and _number(config, "lora_dropout", 0.0) > 0,
        packing=_on(config, "sample_packing"),
        checkpointing=_checkpointing(config),  # type: ignore[arg-type]
        optimizer=str(config.get("optimizer") or "adamw_torch_fused").lower(),
        precision=_precision(config),  # type: ignore[arg-type]
        parallelism=parallelism,  # type: ignore[arg-type]
        offload=offload,  # type: ignore[arg-type]
        tensor=_whole(config, "tensor_parallel_size", 1),
        context=_context(config),
        attention=_attention(config),  # type: ignore[arg-type]
        loss=_loss(config, liger),  # type: ignore[arg-type]
        fused_blocks=_fused(config, method, liger),
        compiled=_on(config, "torch_compile"),
        rows_per_sample=2 if rl in PAIRS else 1,
        reference=method == "full" and rl in ("dpo", "ipo", "kto"),
        eval_batch=_evaluation(config),
    )


def _on(config: Config, key: str) -> bool:
    value = config.get(key)
    if isinstance(value, str):
        return value.lower() not in ("", "false", "no", "off", "0", "none")
    return bool(value)


def _whole(config: Config, key: str, otherwise: int) -> int:
    value = config.get(key)
    if value is None or value == "":
        return otherwise
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = 0.5
    if isinstance(value, bool) or number != int(number) or number < 1:
        raise BadInput(f"{key} is {value!r}", hint="it is a whole number, 1 or more")
    return int(number)


def _number(config: Config, key: str, otherwise: float) -> float:
    value = config.get(key)
    if value is None or value == "":
        return otherwise
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise BadInput(f"{key} is {value!r}", hint="it is a number") from error


def _words(config: Config, key: str) -> list[str]:
    value = config.get(key)
    if isinstance(value, str):
        return value.split()
    if isinstance(value, Sequence):
        return [each for each in value if isinstance(each, str)]
    return []


def _section(config: Config, key: str) -> Mapping[str, Any]:
    value = config.get(key)
    return value if isinstance(value, Mapping) else {}


def _method(config: Config) -> tuple[str, str]:
    adapter = str(config.get("adapter") or "").lower()
    four, eight = _on(config, "load_in_4bit"), _on(config, "load_in_8bit")
    if adapter in ("", "none"):
        return "full", "none"
    if adapter not in ("lora", "qlora"):
        raise BadInput(
            f"adapter {adapter!r} is none that can be estimated", hint="it is lora, qlora or empty"
        )
    if _on(config, "gptq"):
        return "qlora", "gptq4"
    if adapter == "qlora" or four:
        if eight and not four:
            return "qlora", "int8"
        kwargs = _section(config, "bnb_config_kwargs")
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
    if _on(config, "lora_target_linear") or any(part == "all-linear" for part in parts):
        return LINEARS
    found = [name for name in (*LINEARS, "embed_tokens", "lm_head") if _names(parts, name)]
    if found:
        return tuple(found)
    if parts:
        return LINEARS
    return LINEARS if not config.get("lora_target_parameters") else ("q_proj", "v_proj")


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
    saved = " ".join(_words(config, "lora_modules_to_save"))
    found = []
    if re.search(r"embed_tokens|wte|embeddings?", saved):
        found.append("embed_tokens")
    if "lm_head" in saved:
        found.append("lm_head")
    return tuple(found)


def _share(config: Config) -> float:
    """Of full fine-tuning with `unfrozen_parameters`: a rough share, by the layers they name."""
    patterns = _words(config, "unfrozen_parameters")
    if not patterns or config.get("adapter"):
        return 1.0
    text = " ".join(patterns)
    layers = {int(each) for each in re.findall(r"layers?\\?\.(\d+)", text)}
    for first, last in re.findall(r"layers?\\?\.\[?(\d+)\s*[-:]\s*(\d+)", text):
        layers |= set(range(int(first), int(last) + 1))
    if not layers:
        return 0.5 if "layers" in text else 0.1
    return min(max(len(layers) / 32, 0.02), 1.0)


def _accumulation(config: Config) -> int:
    if config.get("gradient_accumulation_steps") is None and config.get("batch_size"):
        return max(_whole(config, "batch_size", 1) // _whole(config, "micro_batch_size", 1), 1)
    return _whole(config, "gradient_accumulation_steps", 1)


def _checkpointing(config: Config) -> str:
    value = config.get("gradient_checkpointing")
    offloading = config.get("activation_offloading")
    if isinstance(value, str) and value.lower() in ("unsloth", "offload", "offload_disk"):
        return "offload"
    if not _on(config, "gradient_checkpointing"):
        return "offload" if offloading else "none"
    return "offload" if offloading else "full"


def _precision(config: Config) -> str:
    bf16 = config.get("bf16")
    if isinstance(bf16, str) and bf16.lower() == "full":
        return "bf16-true"
    if _on(config, "bfloat16") or _on(config, "float16"):
        return "bf16-true"
    if _on(config, "fp8"):
        return "bf16-autocast"
    if bf16 is None and config.get("fp16") is None:
        return "bf16-autocast"
    return "bf16-autocast" if _on(config, "bf16") or _on(config, "fp16") else "fp32"


def _attention(config: Config) -> str:
    named = str(config.get("attn_implementation") or "").lower()
    if _on(config, "eager_attention") or named == "eager":
        return "eager"
    if _on(config, "flash_attention") or "flash" in named or _on(config, "flex_attention"):
        return "flash"
    return "sdpa"


def _plugin(config: Config, name: str) -> bool:
    return any(name in plugin.lower() for plugin in _words(config, "plugins"))


def _loss(config: Config, liger: bool) -> str:
    cut = _plugin(config, "cut_cross_entropy") and config.get("cut_cross_entropy") is not False
    if cut or _on(config, "cut_cross_entropy") or _on(config, "unsloth_cross_entropy_loss"):
        return "fused"
    if liger and _on(config, "liger_fused_linear_cross_entropy"):
        return "fused"
    return "chunked" if _on(config, "chunked_cross_entropy") else "stock"


def _fused(config: Config, method: str, liger: bool) -> bool:
    if liger and (_on(config, "liger_glu_activation") or _on(config, "liger_rms_norm")):
        return True
    if method == "full" or _number(config, "lora_dropout", 0.0) > 0:
        return False
    # axolotl turns its adapter kernels on by itself where nothing speaks against them.
    return not any(config.get(key) is False for key in KERNEL_KEYS)


def _context(config: Config) -> int:
    if config.get("context_parallel_size") is not None:
        return _whole(config, "context_parallel_size", 1)
    return _whole(config, "sequence_parallel_degree", 1)


def _evaluation(config: Config) -> int:
    share = _number(config, "val_set_size", 0.0)
    if share <= 0 and not config.get("test_datasets"):
        return 0
    return _whole(config, "eval_batch_size", _whole(config, "micro_batch_size", 1))


def _fsdp_version(config: Config) -> int:
    section = _section(config, "fsdp_config")
    version = config.get("fsdp_version", section.get("fsdp_version", section.get("version", 1)))
    return 2 if str(version) == "2" else 1


def _parallelism(config: Config, base_dir: Path | None) -> tuple[str, str]:
    if config.get("deepspeed"):
        return _deepspeed(config["deepspeed"], base_dir)
    section = _section(config, "fsdp_config")
    words = " ".join(_words(config, "fsdp")).lower()
    if not words and not section:
        shards = config.get("dp_shard_size")
        return ("fsdp" if shards and _whole(config, "dp_shard_size", 1) > 1 else "none"), "none"
    plain = {str(key).removeprefix("fsdp_"): value for key, value in section.items()}
    offload = "params" if "offload" in words or plain.get("offload_params") is True else "none"
    strategy = f"{words} {plain.get('sharding_strategy', '')}".lower()
    if "no_shard" in strategy:
        return "ddp", "none"
    if "shard_grad_op" in strategy or plain.get("reshard_after_forward") is False:
        return "fsdp_grad_op", offload
    return "fsdp", offload


def _deepspeed(value: object, base_dir: Path | None) -> tuple[str, str]:
    """The stage and what is offloaded, by the file; by its name where it is not here."""
    if isinstance(value, Mapping):
        return _stage(value)
    if not isinstance(value, str):
        raise BadInput(f"deepspeed is {value!r}", hint="it is the path of a JSON file")
    path = (base_dir or Path()) / value
    if path.is_file():
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise BadInput(f"{value} cannot be read as JSON: {error}") from error
        if isinstance(document, Mapping):
            return _stage(document)
    name = value.lower()
    found = re.search(r"(?:zero|stage|z)[-_]?([123])", name)
    stage = f"zero{found.group(1)}" if found else "zero2"
    if "offload" not in name:
        return stage, "none"
    return stage, "params" if "all" in name or "param" in name else "optimizer"


def _stage(document: Mapping[str, Any]) -> tuple[str, str]:
    zero = _section(document, "zero_optimization")
    stage = str(zero.get("stage", 0))
    if stage not in ("1", "2", "3"):
        return "ddp", "none"

    def away(key: str) -> bool:
        return str(_section(zero, key).get("device", "none")).lower() in ("cpu", "nvme")

    if away("offload_param"):
        return f"zero{stage}", "params"
    return f"zero{stage}", "optimizer" if away("offload_optimizer") else "none"
