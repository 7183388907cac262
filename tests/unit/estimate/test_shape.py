"""Counting a model's parameters, and finding its shape."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from backends.errors import BadInput
from launcher.estimate import Shape, shapes
from launcher.estimate.shape import LINEARS, counted


def test_parameters_are_counted_by_hand(small: Shape) -> None:
    # attention: q and o 64*64 each, k and v 64*32 each; MLP: 3 * 64*128; two norms of 64
    block = 2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 128 + 2 * 64
    assert small.params == 2 * block + 2 * 1000 * 64 + 64
    assert small.block_params == 2 * block + 64


def test_an_adapter_has_rank_times_inputs_and_outputs(small: Shape) -> None:
    assert small.adapter_params(("q_proj",), 8) == 2 * 8 * (64 + 64)
    assert small.adapter_params(("v_proj",), 8) == 2 * 8 * (64 + 32)
    assert small.adapter_params(("down_proj",), 8) == 2 * 8 * (128 + 64)
    assert small.adapter_params(("lm_head",), 8) == 8 * (1000 + 64)


def test_the_adapter_of_llama_2_is_as_large_as_published() -> None:
    # litgpt's resource tables state 4,194,304 for rank 8 on queries and values.
    llama = shapes.find("meta-llama/Llama-2-7b-hf")
    assert llama.adapter_params(("q_proj", "v_proj"), 8) == 4_194_304


def test_experts_have_an_adapter_each() -> None:
    mixtral = shapes.find("mistralai/Mixtral-8x7B-v0.1")
    assert mixtral.adapter_params(("up_proj",), 4) == 32 * 8 * 4 * (4096 + 14336)


def test_experts_are_left_out_where_they_are_no_layers() -> None:
    mixtral = shapes.find("mistralai/Mixtral-8x7B-v0.1")
    assert mixtral.adapter_params(("up_proj",), 4, experts=False) == 0
    assert mixtral.adapter_params(("q_proj",), 4, experts=False) == 32 * 4 * 2 * 4096


def test_experts_in_one_tensor_have_none() -> None:
    assert shapes.find("openai/gpt-oss-20b").adapter_params(("up_proj",), 4) == 0


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("META-LLAMA/llama-2-7B-hf", "meta-llama/Llama-2-7b-hf"),
        ("unsloth/llama-3-8b-bnb-4bit", "meta-llama/Meta-Llama-3-8B"),
        ("NousResearch/Llama-3.2-1B", "meta-llama/Llama-3.2-1B"),
        ("unsloth/mistral-7b-v0.3-bnb-4bit", "mistralai/Mistral-7B-v0.3"),
        ("unsloth/Qwen2.5-7B-Instruct", "Qwen/Qwen2.5-7B-Instruct"),
    ],
)
def test_copies_are_taken_for_what_they_copy(name: str, meant: str) -> None:
    found, model = shapes.find(name), shapes.find(meant)
    assert (found.hidden, found.layers, found.vocab) == (model.hidden, model.layers, model.vocab)
    assert found.name == meant


def test_an_unknown_model_is_one_sentence_with_near_names_and_a_way_out() -> None:
    with pytest.raises(BadInput) as caught:
        shapes.find("Qwen/Qwen9-77B")
    assert "\n" not in caught.value.message
    assert "Qwen/Qwen9-77B is not known" in caught.value.message
    assert "--hidden" in caught.value.hint
    assert "config.json" in caught.value.hint


@pytest.mark.parametrize("name", sorted(shapes.table()))
def test_each_row_of_the_table_holds_together(name: str) -> None:
    shape = shapes.table()[name]
    assert shape.kv_heads <= shape.heads
    assert shape.heads % shape.kv_heads == 0
    assert 0 < shape.active_params <= shape.params
    assert shape.mlp_mats in (2, 3)
    assert shape.block_params > 0
    assert shape.source.startswith("table (")
    assert (shape.experts > 0) == (shape.top_k > 0)
    if not shape.mixture and shape.family not in HYBRID:
        assert counted(shape)[0] == pytest.approx(shape.params, rel=0.08)


HYBRID = {"lfm2", "qwen3_5", "granitemoehybrid"}
"""Families with blocks of another kind, whose count is not that of a transformer."""


def test_a_config_tells_the_shape(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(
        json.dumps(
            {
                "model_type": "llama",
                "hidden_size": 4096,
                "num_hidden_layers": 32,
                "num_attention_heads": 32,
                "num_key_value_heads": 8,
                "intermediate_size": 14336,
                "vocab_size": 128256,
                "tie_word_embeddings": False,
            }
        )
    )
    found = shapes.from_config_file(path)
    known = shapes.find("meta-llama/Meta-Llama-3.1-8B")
    assert found.params == pytest.approx(known.params, rel=1e-3)
    assert found.kv_width == 1024


def test_a_config_of_an_older_family_and_one_inside_another() -> None:
    old = {"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "vocab_size": 50257}
    found = shapes.from_config({**old, "tie_word_embeddings": True}, name="gpt2")
    assert found.params == pytest.approx(124e6, rel=0.02)
    outer = {"model_type": "gemma3", "text_config": {"hidden_size": 64, "num_hidden_layers": 2}}
    assert shapes.from_config(outer, name="vision").hidden == 64


def test_an_exact_count_is_believed() -> None:
    config = {"hidden_size": 64, "num_hidden_layers": 2, "vocab_size": 100}
    assert shapes.from_config(config, name="mine", params=123_456).params == 123_456


@pytest.mark.parametrize("text", ["", "[1]", "{}", '{"hidden_size": 64}', "{not json"])
def test_a_bad_config_is_one_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(BadInput) as caught:
        shapes.from_config_file(path)
    assert str(path) in caught.value.message
    assert "\n" not in caught.value.message


def test_a_missing_config_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be read"):
        shapes.from_config_file(tmp_path / "none.json")


def test_typed_numbers_make_a_shape() -> None:
    found = shapes.from_numbers(
        params=6_738_000_000, hidden=4096, layers=32, vocab=32_000, heads=32
    )
    assert found.head_dim == 128
    assert found.intermediate == pytest.approx(11008, rel=0.02)
    with pytest.raises(BadInput, match="--layers is 0"):
        shapes.from_numbers(params=1, hidden=1, layers=0)


def test_only_a_size_makes_a_likely_shape() -> None:
    found = shapes.like(7.0, name="somebody/7b")
    assert found.params == 7_000_000_000
    assert "only its size is known" in found.source


def test_every_linear_layer_has_a_name() -> None:
    assert len(LINEARS) == 7
