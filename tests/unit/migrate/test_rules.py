"""What a recipe of 2024 becomes; every result is read by PyYAML and looked at by preflight."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml

from backends.errors import Refused
from launcher import bundled, preflight, recipe
from launcher.migrate import Migration, prompts
from launcher.migrate.sharegpt import VICUNA_JINJA

Migrated = Callable[[str], Migration]
HEAD = "base_model: o/m\nlearning_rate: 2e-4  # text to YAML, a number to axolotl\n"
ALPACA = HEAD + "datasets: [{path: o/s, type: alpaca}]\n"
SHAREGPT = HEAD + "datasets:\n  - path: o/s\n    type: sharegpt\n"


def config(migration: Migration) -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load(migration.after)
    return read


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("evaluation_strategy: epoch", {"eval_strategy": "epoch"}),
        ("evaluation_strategy: epoch\neval_strategy: steps", {"eval_strategy": "steps"}),
        ("evaluation_strategy: epoch\neval_strategy:", {"eval_strategy": "epoch"}),
        ("noisy_embedding_alpha: 5", {"neftune_noise_alpha": 5}),
        ("dpo_beta: 0.1", {"rl_beta": 0.1}),
        ("eval_table_size: 3", {"num_generation_samples": 3, "generate_samples": True}),
        ("eval_max_new_tokens: 64", {"generation_max_new_tokens": 64}),
        ("relora_steps: 150", {"jagged_restart_steps": 150, "relora": True}),
        ("unsloth_lora_qkv: true", {"lora_qkv_kernel": True}),
        ("unsloth_lora_qkv: false", {}),
        ("unsloth_rope: true", {}),
        ("gptq_groupsize: 128", {}),
        ("max_packed_sequence_len: 512", {"sample_packing": True, "sequence_len": 512}),
        ("max_packed_sequence_len: 512\nsequence_len: 64\nsample_packing: false",
         {"sequence_len": 64, "sample_packing": False}),
        ("s2_attention: true", {}),
        ("rpo_alpha: 0.5", {}),
        ("rope_scaling: {type: linear, factor: 2.0}",
         {"overrides_of_model_config": {"rope_scaling": {"type": "linear", "factor": 2.0}}}),
        ("model_config: {a: 1}\nrope_scaling: {factor: 2.0}",
         {"model_config": {"a": 1, "rope_scaling": {"factor": 2.0}}}),
        ("gradient_checkpointing: unsloth",
         {"gradient_checkpointing": True, "activation_offloading": True}),
        ("rl: dpo_pair", {"rl": "dpo"}),
        ("optimizer: adamw_hf", {"optimizer": "adamw_torch"}),
        ("chat_template: inst", {"chat_template": "mistral_v1"}),
    ],
)  # fmt: skip
def test_keys_that_are_called_otherwise_now(
    migrated: Migrated, old: str, new: dict[str, Any]
) -> None:
    found = migrated(ALPACA + old + "\n")
    assert config(found) == {**yaml.safe_load(ALPACA), **new}
    assert found.done[0].where.startswith("r.yml:")
    assert "# text to YAML" in found.after


@pytest.mark.parametrize(
    "text",
    [
        "evaluation_strategy:\n", "debug:\n", "s2_attention: false\n", "rope_scaling:\n",
        "gradient_checkpointing: true\n", "chat_template: chatml\n", "deepspeed:\n",
    ],
)  # fmt: skip
def test_what_says_nothing_old_is_left_alone(migrated: Migrated, text: str) -> None:
    found = migrated(ALPACA + text)
    assert not found.needed
    assert found.after == found.before


@pytest.mark.parametrize(
    ("entry", "top", "new"),
    [
        ("", "", {"chat_template": "jinja", "chat_template_jinja": VICUNA_JINJA}),
        ("conversation: chatml", "", {"chat_template": "chatml"}),
        ("conversation: llama3", "", {"chat_template": "llama3"}),
        ("", "chat_template: chatml\n", {"chat_template": "chatml"}),
        ("conversation: zephyr", "", {}),
    ],
)
def test_the_template_of_sharegpt_becomes_the_recipes(
    migrated: Migrated, entry: str, top: str, new: dict[str, Any]
) -> None:
    found = migrated(SHAREGPT + (f"    {entry}\n" if entry else "") + top)
    wanted = yaml.safe_load(HEAD)
    wanted["datasets"] = [
        {
            "path": "o/s",
            "type": "chat_template",
            "field_messages": "conversations",
            "message_property_mappings": {"role": "from", "content": "value"},
        }
    ]
    assert config(found) == {**wanted, **new}


@pytest.mark.parametrize(
    ("kind", "more", "field", "mapped", "roles"),
    [
        ("sharegpt:chat", "", "conversations", ("from", "value"), None),
        ("sharegpt_simple", "", "conversations", ("from", "value"), None),
        ("sharegpt.load_role", "", "conversations", ("role", "value"), None),
        ("sharegpt.load_ultrachat", "", "messages", ("role", "content"), None),
        ("sharegpt.load_guanaco", "", "conversations", ("role", "text"), "prompter"),
        ("sharegpt", "field_human: them", "conversations", ("from", "value"), "them"),
        ("sharegpt", "roles: {input: [them]}", "conversations", ("from", "value"), "them"),
        ("sharegpt", "strict: false", "conversations", ("from", "value"), None),
    ],
)
def test_every_variant_of_sharegpt(  # noqa: PLR0917 - one argument a column
    migrated: Migrated, kind: str, more: str, field: str, mapped: tuple[str, str], roles: str | None
) -> None:
    text = SHAREGPT.replace("sharegpt", kind) + f"    conversation: chatml\n    {more}\n"
    (entry,) = config(migrated(text))["datasets"]
    assert (entry["type"], entry["field_messages"]) == ("chat_template", field)
    assert tuple(entry["message_property_mappings"].values()) == mapped
    assert (roles in entry["roles"]["user"]) if roles else ("roles" not in entry)
    assert not {"conversation", "field_human", "strict"} & entry.keys()


def test_entries_with_templates_of_their_own_keep_them(migrated: Migrated) -> None:
    text = SHAREGPT + "    conversation: chatml\n  - {path: a/b, type: sharegpt, strict: true}\n"
    entries = config(migrated(text))["datasets"]
    assert [entry["chat_template"] for entry in entries] == ["chatml", "jinja"]


def test_a_variant_that_has_no_counterpart_is_left_for_a_person(migrated: Migrated) -> None:
    found = migrated(SHAREGPT.replace("sharegpt", "sharegpt.load_glaive"))
    assert found.by_hand[0].where == "r.yml:5"
    assert "no counterpart" in found.by_hand[0].says


@pytest.mark.parametrize(
    ("entry", "new"),
    [
        ("{path: o/s, type: alpaca, train_on_split: x}",
         {"path": "o/s", "type": "alpaca", "split": "x"}),
        ("{path: json, type: alpaca, data_files: d.jsonl}",
         {"path": "d.jsonl", "ds_type": "json", "type": "alpaca"}),
        ("{path: o/s, type: chat_template, conversation: chatml}",
         {"path": "o/s", "type": "chat_template"}),
        ("{path: o/s, type: chat_template, message_field_role: r, message_field_content: c}",
         {"path": "o/s", "type": "chat_template",
          "message_property_mappings": {"role": "r", "content": "c"}}),
    ],
)  # fmt: skip
def test_old_keys_of_a_data_set(migrated: Migrated, entry: str, new: dict[str, Any]) -> None:
    assert config(migrated(HEAD + f"datasets: [{entry}]\n"))["datasets"] == [new]


@pytest.mark.parametrize("text", ["/workspace/axolotl/deepspeed_configs/", "deepspeed/"])
def test_deepspeed_files_are_supplied_for_every_name_we_have(
    migrated: Migrated, desk: Path, text: str
) -> None:
    ours = sorted((bundled.configs_dir() / "deepspeed").glob("*.json"))
    assert len(ours) >= 6
    for file in ours:
        found = migrated(ALPACA + f"deepspeed: {text}{file.name}\n")
        assert config(found)["deepspeed"] == f"deepspeed_configs/{file.name}"
        assert found.supplied == {desk / "deepspeed_configs" / file.name: file}


def test_a_deepspeed_file_that_is_here_is_the_users_own(migrated: Migrated, desk: Path) -> None:
    (desk / "deepspeed_configs").mkdir()
    (desk / "deepspeed_configs" / "zero2.json").write_text("{}")
    assert not migrated(ALPACA + "deepspeed: deepspeed_configs/zero2.json\n").needed


def test_data_of_a_container_that_lie_here(migrated: Migrated, desk: Path) -> None:
    (desk / "data").mkdir()
    (desk / "data" / "x.jsonl").write_text("{}\n")
    text = HEAD + "datasets:\n- path: /workspace/{}\n  type: alpaca\n"
    assert config(migrated(text.format("data/x.jsonl")))["datasets"][0]["path"] == "data/x.jsonl"
    assert migrated(text.format("data/y.jsonl")).by_hand[0].where == "r.yml:4"


def test_the_first_row_is_shown_both_ways(migrated: Migrated, desk: Path) -> None:
    row = '{"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "yo"}]}\n'
    (desk / "d.jsonl").write_text(row)
    text = SHAREGPT.replace("o/s", "d.jsonl") + "    conversation: chatml\n"
    (compared,) = migrated(text).prompts
    said = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nyo<|im_end|>\n"
    assert compared.after == said
    assert compared.before == (
        f"<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{said}"
    )
    assert "does not" in compared.note
    (plain,) = migrated(SHAREGPT.replace("o/s", "d.jsonl")).prompts
    assert plain.same
    assert plain.after.endswith("questions. USER: hi ASSISTANT: yo</s>")
    (unknown,) = migrated(text.replace("chatml", "zephyr")).prompts
    assert unknown.before == unknown.after == ""
    assert "not known here" in unknown.note


@pytest.mark.parametrize("system", [None, "Be brief."])
def test_the_template_for_vicuna_renders_what_sharegpt_did(system: str | None) -> None:
    turns = [("user", "hi"), ("assistant", "yo"), ("user", "so?"), ("assistant", "no")]
    turns = [*([("system", system)] if system else []), *turns]
    messages = [{"role": role, "content": said} for role, said in turns]
    template = jinja2.Template(VICUNA_JINJA)
    assert template.render(messages=messages, bos_token="<s>") == f"<s>{prompts.vicuna(turns)}"
    asked = template.render(messages=messages[:-1], add_generation_prompt=True)
    assert f"{asked} {'no'}</s>" == prompts.vicuna(turns)


def test_an_entry_that_is_another_ones_alias(migrated: Migrated) -> None:
    text = (
        SHAREGPT.replace("- path", "- &a\n    path")
        + "    strict: true\n  - <<: *a\n    path: p/q\n"
    )
    first, second = config(migrated(text))["datasets"]
    assert second == {**first, "path": "p/q"}


def test_what_an_alias_says_twice_is_not_changed_behind_ones_back(migrated: Migrated) -> None:
    text = HEAD + "x-a: &a {train_on_split: x}\ndatasets:\n- {<<: *a, path: p/q, type: alpaca}\n"
    with pytest.raises(Refused, match=r"r\.yml:\d+: this cannot be changed") as caught:
        migrated(text)
    assert "by hand" in caught.value.hint


def test_nothing_is_left_that_preflight_calls_old(migrated: Migrated, desk: Path) -> None:
    text = SHAREGPT + "    conversation: chatml\nevaluation_strategy: steps\ndebug: true\n"
    text += "deepspeed: /workspace/axolotl/deepspeed_configs/zero1.json\nval_set_size: 0.1\n"
    found = migrated(text)
    (desk / "new.yml").write_text(found.after)
    left = preflight.examine(recipe.load("new.yml", cwd=desk))
    lines = found.after.splitlines()
    (missing,) = left  # the file that --write lays beside the recipe
    assert lines[int(missing.where.split(":")[1]) - 1].startswith("deepspeed:")
