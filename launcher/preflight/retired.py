"""Keys that older versions of axolotl read and 0.19 ignores: a warning, not a misspelling."""

from __future__ import annotations

RETIRED: dict[str, str] = {
    "base_model_ignore_patterns": "",
    "data_seed": "seed",
    "debug": "",
    "eval_table_max_new_tokens": "generation_max_new_tokens",
    "flash_attn_fuse_qkv": "",
    "gptq_groupsize": "",
    "gptq_model_v1": "",
    "landmark_attention": "",
    "load_4bit": "load_in_4bit",
    "push_to_hub_model_id": "hub_model_id",
    "relora_anneal_steps": "jagged_restart_anneal_steps",
    "relora_steps": "jagged_restart_steps",
    "relora_warmup_steps": "jagged_restart_warmup_steps",
    "sample_pack_sequentially": "sample_packing_sequentially",
    "unsloth_cross_entropy_loss": "",
    "unsloth_lora_mlp": "lora_mlp_kernel",
    "unsloth_lora_o": "lora_o_kernel",
    "unsloth_lora_qkv": "lora_qkv_kernel",
    "unsloth_rms_norm": "",
    "unsloth_rope": "",
    "xpos_rope": "",
}
"""Key -> what took its place, if anything did."""

RETIRED_IN_DATASETS: dict[str, str] = {
    "streaming": "streaming, at the top of the config",
    "train_on_split": "split",
}
"""The same inside an entry of a list of data sets."""
