"""What an axolotl config comes to: every way to train, and no traceback whatever it holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from backends.errors import Refused
from launcher.bundled import configs_dir
from launcher.estimate import Setup, setup_of
from launcher.estimate.shape import LINEARS

CCE = "axolotl.integrations.cut_cross_entropy.CutCrossEntropyPlugin"
LIGER = "axolotl.integrations.liger.LigerPlugin"


def of(**config: Any) -> Setup:
    return setup_of(config)


@pytest.mark.parametrize(
    ("config", "method", "quant"),
    [
        ({}, "full", "none"),
        ({"adapter": None}, "full", "none"),
        ({"adapter": "lora"}, "lora", "none"),
        ({"adapter": "lora", "load_in_8bit": True}, "qlora", "int8"),
        ({"adapter": "lora", "load_in_4bit": True}, "qlora", "nf4dq"),
        ({"adapter": "qlora", "load_in_4bit": True}, "qlora", "nf4dq"),
        (
            {"adapter": "qlora", "bnb_config_kwargs": {"bnb_4bit_use_double_quant": False}},
            "qlora",
            "nf4",
        ),
        ({"adapter": "lora", "gptq": True}, "qlora", "gptq4"),
    ],
)
def test_the_adapter_and_the_base(config: dict[str, Any], method: str, quant: str) -> None:
    found = setup_of(config)
    assert (found.method, found.quant) == (method, quant)


@pytest.mark.parametrize(
    ("config", "targets"),
    [
        ({"lora_target_linear": True}, LINEARS),
        ({"lora_target_modules": ["q_proj", "v_proj"]}, ("q_proj", "v_proj")),
        ({"lora_target_modules": "all-linear"}, LINEARS),
        ({"lora_target_modules": ["query_key_value"]}, ("q_proj", "k_proj", "v_proj")),
        (
            {"lora_target_modules": r"model.layers.[\d]+.(mlp|self_attn).(up|down|q)_proj"},
            ("q_proj", "up_proj", "down_proj"),
        ),
        ({"lora_target_modules": ["model.layers.0.self_attn.o_proj"]}, ("o_proj",)),
    ],
)
def test_which_layers_have_an_adapter(config: dict[str, Any], targets: tuple[str, ...]) -> None:
    assert setup_of({"adapter": "lora", **config}).targets == targets


def test_modules_saved_beside_the_adapter() -> None:
    found = of(adapter="lora", lora_modules_to_save=["embed_tokens", "lm_head"])
    assert found.trained == ("embed_tokens", "lm_head")


@pytest.mark.parametrize(
    ("config", "parallelism", "offload"),
    [
        ({}, "none", "none"),
        ({"deepspeed": "deepspeed_configs/zero1.json"}, "zero1", "none"),
        ({"deepspeed": "deepspeed_configs/zero2_torch_compile.json"}, "zero2", "none"),
        ({"deepspeed": "deepspeed_configs/zero3_bf16.json"}, "zero3", "none"),
        ({"deepspeed": "zero3_bf16_cpuoffload_all.json"}, "zero3", "params"),
        ({"deepspeed": "zero3_bf16_cpuoffload_params.json"}, "zero3", "params"),
        ({"deepspeed": {"zero_optimization": {"stage": 2}}}, "zero2", "none"),
        (
            {
                "deepspeed": {
                    "zero_optimization": {"stage": 3, "offload_optimizer": {"device": "cpu"}}
                }
            },
            "zero3",
            "optimizer",
        ),
        ({"fsdp": ["full_shard", "auto_wrap"]}, "fsdp", "none"),
        ({"fsdp": ["full_shard", "offload"]}, "fsdp", "params"),
        ({"fsdp": ["shard_grad_op"]}, "fsdp_grad_op", "none"),
        ({"fsdp_version": 2, "fsdp_config": {"offload_params": True}}, "fsdp", "params"),
        ({"fsdp_config": {"fsdp_sharding_strategy": "NO_SHARD"}}, "ddp", "none"),
        ({"dp_shard_size": 4}, "fsdp", "none"),
    ],
)
def test_how_it_is_spread(config: dict[str, Any], parallelism: str, offload: str) -> None:
    found = setup_of(config)
    assert (found.parallelism, found.offload) == (parallelism, offload)


def test_a_deepspeed_file_is_read_where_it_is_here(tmp_path: Path) -> None:
    (tmp_path / "ds.json").write_text(json.dumps({"zero_optimization": {"stage": 1}}))
    assert setup_of({"deepspeed": "ds.json"}, base_dir=tmp_path).parallelism == "zero1"
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(Refused, match=r"broken\.json cannot be read"):
        setup_of({"deepspeed": "broken.json"}, base_dir=tmp_path)


def test_fsdp_has_a_switch_of_its_own_for_checkpointing() -> None:
    for key in ("activation_checkpointing", "fsdp_activation_checkpointing"):
        assert setup_of({"fsdp_config": {key: True}}).checkpointing == "full"
        assert setup_of({"fsdp_config": {key: False}}).checkpointing == "none"


def test_fsdp2_does_not_shard_a_quantised_base() -> None:
    config = {"adapter": "qlora", "fsdp": ["full_shard"]}
    assert setup_of(config).shard_quant
    assert not setup_of({**config, "fsdp_version": 2}).shard_quant


@pytest.mark.parametrize(
    ("config", "loss"),
    [
        ({}, "stock"),
        ({"plugins": [CCE], "cut_cross_entropy": True}, "fused"),
        ({"plugins": [CCE], "cut_cross_entropy": False}, "stock"),
        ({"plugins": [LIGER], "liger_fused_linear_cross_entropy": True}, "fused"),
        ({"plugins": [LIGER], "liger_rms_norm": True}, "stock"),
        ({"chunked_cross_entropy": True}, "chunked"),
    ],
)
def test_the_loss(config: dict[str, Any], loss: str) -> None:
    assert setup_of(config).loss == loss


@pytest.mark.parametrize(
    ("config", "checkpointing"),
    [
        ({}, "none"),
        ({"gradient_checkpointing": True}, "full"),
        ({"gradient_checkpointing": "true"}, "full"),
        ({"gradient_checkpointing": False}, "none"),
        ({"gradient_checkpointing": "unsloth"}, "offload"),
        ({"gradient_checkpointing": "offload"}, "offload"),
        ({"gradient_checkpointing": True, "activation_offloading": True}, "offload"),
    ],
)
def test_checkpointing(config: dict[str, Any], checkpointing: str) -> None:
    assert setup_of(config).checkpointing == checkpointing


@pytest.mark.parametrize(
    ("config", "precision"),
    [
        ({}, "bf16-autocast"),
        ({"bf16": "auto"}, "bf16-autocast"),
        ({"bf16": True}, "bf16-autocast"),
        ({"bf16": "full"}, "bf16-true"),
        ({"bfloat16": True}, "bf16-true"),
        ({"bf16": False}, "fp32"),
        ({"bf16": False, "fp16": True}, "bf16-autocast"),
    ],
)
def test_precision(config: dict[str, Any], precision: str) -> None:
    assert setup_of(config).precision == precision


def test_the_numbers_are_carried_over() -> None:
    found = of(
        adapter="lora",
        lora_r="32",
        lora_dropout=0.05,
        sequence_len=4096,
        micro_batch_size=2,
        gradient_accumulation_steps=4,
        sample_packing=True,
        optimizer="adamw_bnb_8bit",
        val_set_size=0.05,
        eval_batch_size=8,
        context_parallel_size=2,
        tensor_parallel_size=2,
        flash_attention=True,
    )
    assert (found.rank, found.seq_len, found.micro_batch, found.grad_accum) == (32, 4096, 2, 4)
    assert found.packing
    assert found.dropout
    assert found.optimizer == "adamw_bnb_8bit"
    assert (found.eval_batch, found.context, found.tensor) == (8, 2, 2)
    assert found.attention == "flash"


def test_pairs_pass_two_rows_and_full_dpo_keeps_a_reference() -> None:
    assert of(rl="dpo").rows_per_sample == 2
    assert of(rl="dpo").reference
    assert not of(rl="orpo").reference
    assert not of(rl="dpo", adapter="lora").reference


def test_some_layers_unfrozen_are_a_share() -> None:
    patterns = [rf"model\.layers\.{layer}\." for layer in range(8)]
    assert of(unfrozen_parameters=patterns).trained_share == 0.25
    assert of(adapter="lora", unfrozen_parameters=patterns).trained_share == 1.0


def test_experts_are_one_tensor_unless_it_is_asked_for() -> None:
    plain = of(adapter="qlora")
    assert not plain.experts_quantised
    assert not plain.experts_adapted
    asked = of(
        adapter="qlora",
        quantize_moe_experts=True,
        lora_target_modules=["q_proj"],
        lora_target_parameters=["mlp.experts.gate_up_proj", "mlp.experts.down_proj"],
    )
    assert asked.experts_quantised
    assert asked.experts_adapted
    assert asked.targets == ("q_proj", "gate_proj", "up_proj", "down_proj")


def test_a_range_of_layers_without_an_end_is_no_burden() -> None:
    assert of(unfrozen_parameters=["model.layers.0-99999999999"]).trained_share == 1.0


def test_kernels_that_axolotl_turns_on_by_itself() -> None:
    assert of(adapter="lora").fused_blocks
    assert of(adapter="lora", lora_mlp_kernel=True, lora_qkv_kernel=False).fused_blocks
    assert not of(adapter="lora", lora_mlp_kernel=False).fused_blocks
    assert not of(adapter="lora", rl="dpo").fused_blocks
    assert not of(adapter="lora", load_in_8bit=True).fused_blocks
    assert not of().fused_blocks


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"micro_batch_size": -1}, "micro_batch_size is -1"),
        ({"micro_batch_size": True}, "micro_batch_size is True"),
        ({"sequence_len": "long"}, "sequence_len is 'long'"),
        ({"adapter": "llama-adapter"}, "adapter 'llama-adapter'"),
        ({"adapter": "lora", "lora_r": 0}, "lora_r is 0"),
        ({"adapter": "lora", "lora_dropout": []}, "lora_dropout is"),
        ({"sequence_len": float("inf")}, "sequence_len is inf"),
        ({"sequence_len": 10**400}, "sequence_len is 1"),
        ({"rl": "grpo"}, "samples answers"),
        ({"deepspeed": 3}, "deepspeed is 3"),
    ],
)
def test_what_cannot_be_is_one_sentence(config: dict[str, Any], said: str) -> None:
    with pytest.raises(Refused) as caught:
        setup_of(config)
    assert said in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("path", sorted(configs_dir().glob("*.yml")), ids=lambda path: path.name)
def test_the_bundled_configs_have_a_setup(path: Path) -> None:
    assert setup_of(yaml.safe_load(path.read_text())).seq_len >= 1


KEYS = [
    "adapter", "load_in_4bit", "load_in_8bit", "bnb_config_kwargs", "lora_target_modules",
    "lora_r", "lora_dropout", "lora_modules_to_save", "unfrozen_parameters", "sequence_len",
    "micro_batch_size", "batch_size", "fsdp", "gradient_accumulation_steps", "optimizer", "rl",
    "gradient_checkpointing", "bf16", "fp16", "fsdp_config", "plugins", "deepspeed",
    "val_set_size", "eval_batch_size", "attn_implementation", "fsdp_version", "dp_shard_size",
    "tensor_parallel_size", "context_parallel_size", "cut_cross_entropy", "activation_offloading",
]  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-4, 4096) | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=4,
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=8))
def test_nothing_ends_in_a_traceback(config: dict[str, Any]) -> None:
    try:
        found = setup_of(config)
    except Refused:
        return
    assert isinstance(found, Setup)
