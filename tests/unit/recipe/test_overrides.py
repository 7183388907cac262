"""`--set`, a recipe's `set`, and `--data`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from backends.errors import BadInput, Refused
from launcher import recipe
from launcher.recipe import Recipe, keypath, overrides, references

Load = Callable[..., Recipe]
PLAIN = "base_model: m\ndatasets:\n  - path: a/b\n    type: alpaca\n  - path: c/d\ntrl:\n"


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("learning_rate=2e-4", "learning_rate", "2e-4"),
        ("flash_attention=false", "flash_attention", False),
        ("lora_r=8", "lora_r", 8),
        ("lora_r=", "lora_r", None),
        ('wandb_name=""', "wandb_name", ""),
        ("wandb_name='8'", "wandb_name", "8"),
        ("lora_target_modules=[q, v]", "lora_target_modules", ["q", "v"]),
        ("trl.beta=0.1", "trl.beta", 0.1),
        ("datasets[1].path=x: y #z", "datasets[1].path", "x: y #z"),
        ("datasets.1.path=a=b", "datasets[1].path", "a=b"),
        ("datasets[0].path=-x\ny", "datasets[0].path", "-x\ny"),
        ("special_tokens.pad_token=<|end|>", "special_tokens.pad_token", "<|end|>"),
        ("resources_per_worker={GPU: 1}", "resources_per_worker", {"GPU": 1}),
    ],
)
def test_set_puts_a_value_where_it_says(load: Load, text: str, key: str, value: Any) -> None:
    found = load(PLAIN, sets=[text])
    assert keypath.get(found.config, keypath.parse(key)) == value
    assert found.where(key).startswith("--set ")
    assert found.where("base_model") == "my recipe.yml:1"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("learning_rate", "holds no '='"),
        ("=1", "does not name a key"),
        ("a..b=1", "does not name a key"),
        ("a[x]=1", "does not name a key"),
        ("[0]=1", "does not name a key"),
        ("a[0]b=1", "a dot is missing"),
        ("datasets[2].path=x", "datasets has 2 entries"),
        ("datasets[-1].path=x", "datasets has 2 entries"),
        ("datasets.path=x", "datasets is a list"),
        ("base_model.x=1", "base_model is a single value"),
        ("trl[0]=1", "is not a list"),
        ("a=[1", "cannot be read as YAML"),
        ("a={[}", "cannot be read as YAML"),
    ],
)
def test_a_set_that_cannot_be_is_bad_input(load: Load, text: str, says: str) -> None:
    with pytest.raises(BadInput, match="--set") as caught:
        load(PLAIN, sets=[text])
    assert says in caught.value.message


def test_the_recipes_set_holds_over_the_file_and_the_command_line_over_both(load: Load) -> None:
    text = "config: {base_model: m, a: 1, b: 1, c: 1}\nset:\n  b: 2\n  c: 2\n"
    found = load(text, sets=["c=3"])
    assert found.config == {"base_model": "m", "a": 1, "b": 2, "c": 3}
    assert [found.where(key) for key in "abc"] == ["my recipe.yml:1", "my recipe.yml:3", "--set c"]
    assert [(change.key, change.before, change.after) for change in found.changes] == [
        ("b", 1, 2),
        ("c", 1, 2),
        ("c", 2, 3),
    ]


def test_a_wrong_set_in_a_recipe_is_refused_with_its_line(load: Load) -> None:
    with pytest.raises(Refused, match=r"my recipe.yml:4: base_model.x cannot be set"):
        load("config: {base_model: m}\nset:\n  a: 1\n  base_model.x: 2\n")


def test_entries_that_are_one_yaml_alias_are_set_apart(load: Load) -> None:
    text = "base_model: m\ndatasets:\n- &d {path: a, type: alpaca}\n- *d\n"
    found = load(text, sets=["datasets[0].path=x"])
    assert [entry["path"] for entry in found.config["datasets"]] == ["x", "a"]


# ── --data ────────────────────────────────────────────────────────────────────────────────────


def test_data_takes_the_place_of_the_first_data_set(load: Load, folder: Path) -> None:
    (folder / "mine.jsonl").write_text("{}\n")
    found = load(PLAIN, data=Path("mine.jsonl"))
    assert [entry["path"] for entry in found.config["datasets"]] == ["mine.jsonl", "c/d"]
    assert found.where("datasets[0].path") == "--data mine.jsonl"


def test_data_elsewhere_becomes_an_absolute_path(load: Load, tmp_path: Path) -> None:
    there = tmp_path / "else\nwhere.jsonl"
    there.touch()
    found = load(PLAIN, data=there)
    assert found.config["datasets"][0]["path"] == str(there.resolve())


@pytest.mark.parametrize(
    ("name", "given_type", "expected"),
    [
        ("x.jsonl", None, None),
        ("x.jsonl", "parquet", "json"),
        ("x.csv", "json", "csv"),
        ("x.csv", None, None),
        ("x.txt.jsonl", None, "json"),
        ("x.jsonl.gz", "csv", "json"),
        ("x.parquet", None, None),
        ("x.data", "json", "json"),
    ],
)
def test_data_gets_the_format_of_its_extension(
    load: Load, folder: Path, name: str, given_type: str | None, expected: str | None
) -> None:
    (folder / name).touch()
    kind = f", ds_type: {given_type}" if given_type else ""
    found = load(f"base_model: m\ndatasets: [{{path: a/b{kind}}}]\n", data=Path(name))
    assert found.config["datasets"][0].get("ds_type") == expected


def test_data_drops_what_described_the_old_files(load: Load, folder: Path) -> None:
    (folder / "x.jsonl").touch()
    old = "path: a/b, type: alpaca, name: c, revision: r, split: test, data_files: [f]"
    found = load(f"base_model: m\ndatasets: [{{{old}}}]\n", data=Path("x.jsonl"))
    assert found.config["datasets"] == [{"path": "x.jsonl", "type": "alpaca"}]
    assert {change.key.rpartition(".")[2] for change in found.changes} == {
        "path",
        "name",
        "revision",
        "split",
        "data_files",
    }


def test_data_that_is_missing_or_has_no_place_is_bad_input(load: Load, folder: Path) -> None:
    with pytest.raises(BadInput, match=r"--data no.jsonl: there is no such file"):
        load(PLAIN, data=Path("no.jsonl"))
    (folder / "x.jsonl").touch()
    with pytest.raises(BadInput, match="the config has no datasets"):
        load("base_model: m\n", data=Path("x.jsonl"))


def test_data_in_a_recipe_and_on_the_command_line(load: Load, folder: Path) -> None:
    for name in ("a.jsonl", "b.jsonl"):
        (folder / name).touch()
    text = "config: {base_model: m, datasets: [{path: z}]}\ndata: a.jsonl\n"
    assert load(text).config["datasets"][0]["path"] == "a.jsonl"
    assert load(text).where("datasets[0].path") == "my recipe.yml:2"
    assert load(text, data=Path("b.jsonl")).config["datasets"][0]["path"] == "b.jsonl"
    assert load(text, sets=["datasets[0].path=c"]).config["datasets"][0]["path"] == "c"
    with pytest.raises(Refused, match=r"my recipe.yml:2: there is no file './gone.jsonl'"):
        load(text.replace("a.jsonl", "./gone.jsonl"))
    assert load(text.replace("a.jsonl", "owner/set")).config["datasets"][0]["path"] == "owner/set"


def test_data_with_a_name_of_broken_bytes_is_refused_in_one_sentence(folder: Path) -> None:
    (folder / "r.yml").write_text(PLAIN)
    odd = Path("b\udcffad.jsonl")
    (folder / odd).touch()
    with pytest.raises(BadInput, match="not valid Unicode"):
        recipe.load("r.yml", data=odd, cwd=folder)


# ── properties ────────────────────────────────────────────────────────────────────────────────

names = st.text(st.characters(exclude_characters=".[]=", exclude_categories=["Cs"]), min_size=1)
names = names.filter(lambda name: name == name.strip() and not name.isdigit())
paths = st.lists(names | st.integers(0, 3), min_size=1, max_size=5).filter(
    lambda path: isinstance(path[0], str)
)


@given(paths)
def test_a_key_path_reads_back_as_it_is_spelled(path: list[str | int]) -> None:
    assert keypath.parse(keypath.spell(path)) == tuple(path)


@given(st.text())
def test_any_text_is_a_key_path_or_a_value_error(text: str) -> None:
    try:
        path = keypath.parse(text)
    except ValueError:
        return
    assert keypath.parse(keypath.spell(path)) == path


@given(st.lists(names, min_size=1, max_size=4), st.text(st.characters(exclude_categories=["Cs"])))
def test_any_set_argument_is_taken_or_is_bad_input(path: list[str], value: str) -> None:
    config: dict[str, Any] = {"base_model": "m"}
    refused = None
    try:
        key, parsed = overrides.split(f"{keypath.spell(path)}={value}")
        overrides.assign(config, key, parsed, lambda said, hint: BadInput(said, hint=hint))
    except BadInput as refusal:
        refused = refusal.message
    if refused is not None:
        assert "\n" not in refused
        return
    assert keypath.get(config, key) == parsed
    if value.lstrip()[:1] not in {"[", "{", '"', "'"} and isinstance(parsed, str):
        assert parsed == value


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"])).filter(lambda t: t == t.strip()))
def test_a_plain_value_means_what_it_means_in_the_file(value: str) -> None:
    try:
        there = yaml.safe_load(f"k: {value}\n")["k"]
    except (yaml.YAMLError, ValueError, TypeError, KeyError):
        return
    _, parsed = overrides.split(f"k={value}")
    if isinstance(there, str | dict) or there is None:
        return  # the file's own marks: comments, quotes, nested mappings, anchors
    assert parsed == there or there != there  # noqa: PLR0124 - NaN


@given(st.text())
def test_any_text_is_sorted_into_hub_id_remote_or_path(text: str) -> None:
    assert not (references.is_hub_id(text) and references.is_remote(text))
