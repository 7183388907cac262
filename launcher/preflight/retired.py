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

DEPRECATED: dict[str, str] = {
    "dpo_beta": "rl_beta",
    "dpo_generate_during_eval": "",
    "dpo_norm_loss": "",
    "dpo_use_logits_to_keep": "",
    "eval_max_new_tokens": "generation_max_new_tokens",
    "eval_table_size": "generate_samples and num_generation_samples",
    "evaluation_strategy": "eval_strategy",
    "flash_attn_rms_norm": "",
    "max_packed_sequence_len": "sample_packing and sequence_len",
    "noisy_embedding_alpha": "neftune_noise_alpha",
    "pretrain_multipack_buffer_size": "streaming_multipack_buffer_size",
    "rope_scaling": "overrides_of_model_config: {rope_scaling: …}",
    "rpo_alpha": "",
    "s2_attention": "",
    "sequence_parallel_degree": "context_parallel_size",
}
"""Keys that 0.19 knows by an older name, or only to refuse them (`schemas/deprecated.py`)."""

REFUSED = {
    *("max_packed_sequence_len", "rope_scaling", "s2_attention", "flash_attn_rms_norm"),
    *("unsloth_cross_entropy_loss", "unsloth_lora_mlp", "unsloth_lora_qkv", "unsloth_lora_o"),
    *("unsloth_rms_norm", "unsloth_rope"),
}
"""Those that it refuses when they are on."""

REFUSED_WHEN_SAID = {
    *("dpo_use_logits_to_keep", "dpo_generate_during_eval", "dpo_norm_loss", "rpo_alpha"),
}
"""Those that it refuses with any value."""
