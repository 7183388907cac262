"""Mistakes in the config itself, each with its line and a way out."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import pytest

from backends.errors import Refused
from launcher import preflight
from launcher.preflight import Problem, keys

Examine = Callable[[str], list[Problem]]
GOOD = "base_model: owner/model\ndatasets:\n- path: owner/set\n  type: alpaca\n"


def test_a_sound_config_has_no_problems(examine: Examine) -> None:
    assert examine(GOOD) == []


def test_every_key_axolotl_reads_is_known(examine: Examine) -> None:
    names = keys.known()["keys"]
    assert {"base_model", "datasets", "model_type", "trl", "lora_r", "deepspeed"} <= names.keys()
    kinds = keys.known()["types"]
    may_be_empty = [name for name in names if {"null", "any"} & set(map(str, kinds[name]))]
    text = "".join(f"{name}:\n" for name in may_be_empty if name != "datasets")
    assert examine(GOOD + text) == []


def test_the_list_of_keys_says_its_version_and_is_sorted() -> None:
    text = (files("launcher.preflight") / "axolotl_keys.json").read_text("utf-8")
    content = json.loads(text)
    assert content["axolotl"] == "0.19.0"
    assert text == json.dumps(content, indent=1, sort_keys=True) + "\n"


@pytest.mark.parametrize(
    ("text", "place", "says", "fixes"),
    [
        ("learning_rte: 1\n", "error r.yml:5", "no key 'learning_rte'", "'learning_rate'"),
        ("lora-r: 1\n", "error r.yml:5", "no key 'lora-r'", "'lora_r'"),
        ("zzzzzz: 1\n", "error r.yml:5", "no key 'zzzzzz'", "remove it"),
        ("zzzzzz:\n", "warning r.yml:5", "no key 'zzzzzz'", "remove it"),
        ("? |\n  a\n  b\n: 1\n", "error r.yml:5", r"no key 'a\nb\n'", "remove it"),
        ("debug: true\n", "warning r.yml:5", "no longer reads 'debug'", "remove it"),
        ("relora_steps: 5\n", "warning r.yml:5", "no longer", "jagged_restart_steps"),
        ("budget: {}\n", "error r.yml:5", "is a launch key", "config"),
        ("config: x.yml\n", "error r.yml:5", "is a launch key", "config"),
        ("liger_rope: true\n", "warning r.yml:5", "only by a plugin", "integrations.liger"),
        ("trl:\n  bta: 1\n", "error r.yml:6", "'bta' in trl", "'beta'"),
        ("test_datasets:\n- {path: o/s, tipe: alpaca}\n", "error r.yml:6", "'tipe'", "'type'"),
        ("dynamic_checkpoint: {enable: true}\n", "error r.yml:5", "'enable'", "'enabled'"),
        ("fsdp_config: {fsdp_offload_param: 1}\n", "error r.yml:5", "no key", "offload_params"),
        ("chat_template: chatlm\n", "error r.yml:5", "no chat template 'chatlm'", "'chatml'"),
    ],
)
def test_keys_and_names_that_axolotl_does_not_know(
    examine: Examine, text: str, place: str, says: str, fixes: str
) -> None:
    (problem,) = examine(GOOD + text)
    assert f"{problem.severity} {problem.where}" == place
    assert says in problem.message
    assert fixes in problem.fix


@pytest.mark.parametrize(
    "text",
    [
        "_shared: &s {a: 1}\n",
        "x-shared: {a: 1}\n",
        "plugins: [axolotl.integrations.liger.LigerPlugin]\nliger_rope: true\n",
        "fsdp_config: {fsdp_offload_params: true, version: 2}\n",
        "accelerator_config: {anything: 1}\n",
        "chat_template: tokenizer_default_fallback_chatml\n",
    ],
)
def test_what_is_taken_is_not_complained_about(examine: Examine, text: str) -> None:
    assert examine(GOOD + text) == []


def test_a_plugin_of_the_users_may_read_keys_we_cannot_know(examine: Examine, folder: Path) -> None:
    (folder / "mine.py").write_text("")
    found = examine(GOOD + "plugins: [mine.P]\nmine_strength: 3\nlearning_rte: 1\n")
    assert [(p.severity, p.where) for p in found] == [("error", "r.yml:7"), ("warning", "r.yml:6")]


def test_a_retired_key_that_says_nothing_is_passed_over(examine: Examine) -> None:
    assert examine(GOOD + "  train_on_split:\ndebug:\nrelora_steps:\n") == []


def test_what_is_left_of_sharegpt_is_a_warning(examine: Examine) -> None:
    (problem,) = examine(GOOD.replace("alpaca", "chat_template") + "  conversation: chatml\n")
    assert (problem.severity, problem.where) == ("warning", "r.yml:5")
    assert "remove it" in problem.fix


def test_an_old_dataset_key_is_a_warning(examine: Examine) -> None:
    (problem,) = examine(GOOD + "  train_on_split: test\n")
    assert (problem.severity, problem.where, problem.fix) == ("warning", "r.yml:5", "use split")


@pytest.mark.parametrize(
    ("text", "where", "says"),
    [
        ("datasets: [{path: o/s, type: alpaca}]\n", "r.yml:1", "base_model is missing"),
        ("base_model: 3\ndatasets: [{path: o/s, type: alpaca}]\n", "r.yml:1", "not the name"),
        ("base_model: o/m\n", "r.yml:1", "there are no data"),
        ("base_model: o/m\ndatasets: []\n", "r.yml:1", "there are no data"),
        ("base_model: o/m\ndatasets: {path: x}\n", "r.yml:2", "is a mapping, and must be a list"),
        ("base_model: o/m\ndatasets:\n- o/s\n", "r.yml:3", "must be a mapping with path"),
        ("base_model: o/m\ndatasets:\n- type: alpaca\n", "r.yml:3", "has no path"),
        ("base_model: o/m\ndatasets:\n- path: 7\n", "r.yml:3", "is not text"),
        (
            "base_model: o/m\ndatasets:\n- path: o/s\n  type: sharegpt\n",
            "r.yml:4",
            "sharegpt is gone",
        ),
        (
            "base_model: o/m\ndatasets:\n- path: owner/set/x\n  type: alpaca\n",
            "r.yml:3",
            "no data set at owner/set/x",
        ),
    ],
)
def test_what_every_config_needs(examine: Examine, text: str, where: str, says: str) -> None:
    problem = examine(text)[0]
    assert (problem.severity, problem.where) == ("error", where)
    assert says in problem.message


def test_a_format_as_path_is_told_how_it_is_done_now(examine: Examine, folder: Path) -> None:
    (folder / "x.jsonl").write_text('{"text": "a"}\n')
    text = "base_model: o/m\ndatasets:\n- path: json\n  data_files: x.jsonl\n  type: completion\n"
    (problem,) = examine(text)
    assert problem.where == "r.yml:3"
    assert "path: x.jsonl" in problem.fix
    assert examine(text.replace("x.jsonl", "gone.jsonl"))[0].where == "r.yml:4"


def test_a_file_that_axolotl_would_read_as_another_format(examine: Examine, folder: Path) -> None:
    (folder / "old.csv").mkdir()
    (folder / "old.csv" / "x.jsonl").write_text('{"text": "a"}\n')
    text = "base_model: o/m\ndatasets:\n- path: old.csv/x.jsonl\n  type: completion\n"
    (problem,) = examine(text)
    assert "as csv" in problem.message
    assert examine(text + "  ds_type: json\n") == []


def test_a_split_that_a_file_does_not_have(examine: Examine, folder: Path) -> None:
    (folder / "x.jsonl").write_text('{"text": "a"}\n')
    text = "base_model: o/m\ndatasets:\n- path: x.jsonl\n  type: completion\n  split: {}\n"
    (problem,) = examine(text.format("test"))
    assert (problem.where, problem.fix) == ("r.yml:5", "remove split")
    assert examine(text.format("train[:10]")) == []


def test_a_hub_id_that_looks_like_a_lost_file_is_a_warning(examine: Examine, folder: Path) -> None:
    (folder / "data").mkdir()
    (problem,) = examine(GOOD.replace("owner/set", "data/train"))
    assert (problem.severity, problem.where) == ("warning", "r.yml:3")


def test_missing_files_are_all_told_at_once(examine: Examine) -> None:
    found = examine(
        "base_model: ./m\ndatasets:\n- path: a.jsonl\n  chat_template_jinja: t.jinja\n"
        "  type: alpaca\ndeepspeed: deepspeed_configs/zero9.json\n"
    )
    assert {p.where for p in found} == {"r.yml:1", "r.yml:3", "r.yml:4", "r.yml:6"}
    assert all(p.severity == "error" and p.fix for p in found)
    with pytest.raises(Refused) as caught:
        preflight.require_ok(found)
    assert caught.value.message == f"{found[0].where}: {found[0].message}"
    assert all(f"also {p.where}: " in caught.value.hint for p in found[1:])
    assert isinstance(caught.value, preflight.RefusedByPreflight)
    assert caught.value.problems == tuple(found)
    assert caught.value.exit_code == 3


def test_warnings_alone_do_not_refuse(examine: Examine) -> None:
    found = examine(GOOD + "debug: true\n")
    assert preflight.require_ok(found) == found
    assert len(found) == 1


def test_a_deepspeed_file_that_is_not_json(examine: Examine, folder: Path) -> None:
    (folder / "ds.json").write_text('{\n "a": tru\n}')
    (problem,) = examine(GOOD + "deepspeed: ds.json\n")
    assert problem.where == "ds.json:2:7"
    (folder / "ds.json").write_text("{}")
    assert examine(GOOD + "deepspeed: ds.json\n") == []


def test_modules(examine: Examine, folder: Path) -> None:
    (gone,) = examine(GOOD + "plugins: [gone.P]\n")
    assert (gone.severity, gone.where) == ("warning", "r.yml:5")
    (folder / "p.py").write_text("import a\n")
    (folder / "a.py").write_text("import b\n")
    (folder / "b.py").write_text("")
    (left,) = examine(GOOD + "plugins: [p.P]\n")
    assert left.severity == "warning"
    assert "imports b.py, which does not travel" in left.message
    assert "include: [b.py]" in left.fix
    said = "config:\n" + "".join(f"  {line}\n" for line in GOOD.splitlines())
    assert examine(said + "  plugins: [p.P]\ninclude: [b.py]\n") == []
    (folder / "a.py").write_text("def\n")
    (broken,) = examine(GOOD + "plugins: [p.P]\n")
    assert broken.severity == "error"
    assert "a.py:1: this is not valid Python" in broken.message


def test_errors_come_first_and_nothing_twice(examine: Examine) -> None:
    found = examine(GOOD + "debug: true\nx: 1\n")
    assert [p.severity for p in found] == ["error", "warning"]
    assert len(set(found)) == len(found)
