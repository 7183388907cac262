"""Keys and values that axolotl 0.19 knows by another name, or no longer.

From `schemas/deprecated.py`, `schemas/validation.py` and `schemas/config.py` of axolotl 0.19.0,
and from `launcher.preflight.retired`, which lists what it ignores without a word.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from launcher.migrate.edits import Edit, Put, Remove, Rename, Step
from launcher.preflight.retired import DEPRECATED, RETIRED

Config = dict[str, Any]

_RENAMED = {
    "dataset_processes": "dataset_num_proc",
    **{old: new for old, new in {**DEPRECATED, **RETIRED}.items() if new.isidentifier()},
    "eval_table_size": "num_generation_samples",
}
_SWITCHES = {"unsloth_lora_mlp", "unsloth_lora_o", "unsloth_lora_qkv"}

_REFUSED_WHEN_ON = {
    "max_packed_sequence_len": "sample_packing with sequence_len takes its place",
    "s2_attention": "shifted-sparse attention is gone",
    "flash_attn_rms_norm": "the fused norm of flash attention is gone",
}
_REFUSED_WHEN_SAID = {
    "dpo_use_logits_to_keep": "TRL no longer has it",
    "dpo_generate_during_eval": "TRL no longer has it",
    "dpo_norm_loss": "TRL no longer has it",
    "rpo_alpha": "TRL no longer has it: RPO is now a list of losses",
}
_TEMPLATES = {"inst": "mistral_v1", "mistral": "mistral_v1", "phi3": "phi_3", "llama-3": "llama3"}

_OPTIMIZERS = {"adamw_hf": "adamw_torch", "adamw_apex_fused": "adamw_torch_fused"}

_OFFLOADING = {"unsloth", "offload", "offload_disk"}

_RL = {"dpo_pair": "dpo", "ipo_pair": "ipo"}


def renamed_keys(config: Config) -> Iterator[Step]:
    """Keys whose meaning lives on under another name. A key without a value stays as it is."""
    for old, new in _RENAMED.items():
        value = config.get(old)
        if value is None:
            continue
        edits: list[Edit] = [Rename((old,), new)]
        if config.get(new) is not None:
            edits = [Remove((old,))]
        elif new in config:  # it is there without a value
            edits = [Remove((new,)), Rename((old,), new)]
        if old == "eval_table_size":
            edits.append(Put(("generate_samples",), bool(value), after=new))
        if old == "relora_steps" and not config.get("relora"):
            edits.append(Put(("relora",), True, after=new))
        said = ", which is there already" if edits == [Remove((old,))] else ""
        if old in _SWITCHES and not value:
            edits, said = [Remove((old,))], ", which is off unless asked for"
        yield Step((old,), f"{old} is now {new}{said}", tuple(edits))


def removed_keys(config: Config) -> Iterator[Step]:
    """Keys that nothing took the place of."""
    for old, new in RETIRED.items():
        if not new and config.get(old) is not None:
            yield Step((old,), f"axolotl no longer reads {old}", (Remove((old,)),))
    for old, why in _REFUSED_WHEN_ON.items():
        if config.get(old):
            edits: list[Edit] = [Remove((old,))]
            if old == "max_packed_sequence_len":
                edits = list(_packing(config, old))
            yield Step((old,), f"axolotl refuses {old}: {why}", tuple(edits))
    for old, why in _REFUSED_WHEN_SAID.items():
        if config.get(old) is not None:
            yield Step((old,), f"axolotl refuses {old}: {why}", (Remove((old,)),))


def _packing(config: Config, old: str) -> Iterator[Edit]:
    if config.get("sequence_len") is None:
        yield Put(("sequence_len",), config[old], after=old)
    if config.get("sample_packing") is None:
        yield Put(("sample_packing",), True, after=old)
    yield Remove((old,))


def moved_keys(config: Config) -> Iterator[Step]:
    """Keys that now stand inside another one."""
    scaling = config.get("rope_scaling")
    if not scaling:
        return
    holder = "model_config" if config.get("model_config") else "overrides_of_model_config"
    inside = config.get(holder)
    says = f"axolotl refuses rope_scaling at the top: it belongs in {holder}"
    put = Put((holder,), {"rope_scaling": scaling}, after="rope_scaling")
    if isinstance(inside, dict) and inside:
        put = Put((holder, "rope_scaling"), scaling)
    yield Step(("rope_scaling",), says, (put, Remove(("rope_scaling",))))


def changed_values(config: Config) -> Iterator[Step]:
    """Values that have another name now."""
    checkpointing = config.get("gradient_checkpointing")
    if isinstance(checkpointing, str) and checkpointing in _OFFLOADING:
        new = "disk" if checkpointing == "offload_disk" else True
        yield Step(
            ("gradient_checkpointing",),
            f"gradient_checkpointing: {checkpointing} is now activation_offloading",
            (
                Put(("gradient_checkpointing",), True),
                Put(("activation_offloading",), new, after="gradient_checkpointing"),
            ),
        )
    rl = config.get("rl")
    if isinstance(rl, str) and rl in _RL:
        yield Step(("rl",), f"rl: {rl} is called {_RL[rl]}", (Put(("rl",), _RL[rl]),))
    elif rl == "kto_pair":
        yield Step(("rl",), "rl: kto_pair is gone: choose rl: kto (unpaired rows) or rl: dpo")
    optimizer = config.get("optimizer")
    if isinstance(optimizer, str) and optimizer in _OPTIMIZERS:
        now = _OPTIMIZERS[optimizer]
        says = f"the optimizer {optimizer} is gone; {now} is the same one"
        yield Step(("optimizer",), says, (Put(("optimizer",), now),))
    template = config.get("chat_template")
    if isinstance(template, str) and template in _TEMPLATES:
        new_name = _TEMPLATES[template]
        says = f"the chat template {template} is called {new_name}"
        yield Step(("chat_template",), says, (Put(("chat_template",), new_name),))
