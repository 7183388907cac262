"""A recipe's text: what it means, and the one sentence for everything wrong with it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from backends.errors import BadInput, Refused
from launcher import recipe
from launcher.recipe import Recipe, yamltext

Load = Callable[..., Recipe]


def message(text: str) -> str:
    with pytest.raises(Refused) as caught:
        yamltext.parse(text, label="r.yml")
    return caught.value.message


def test_values_mean_what_pyyaml_makes_of_them(load: Load) -> None:
    text = "base_model: m\na: 2e-4\nb: yes\nc: 010\nd: ~\n"
    assert load(text).config == {"base_model": "m", "a": "2e-4", "b": True, "c": 8, "d": None}
    assert load(text).config == yaml.safe_load(text)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a: b: c\n", "r.yml:1:5"),
        ("a:\n\t- b\n", "r.yml:2:1"),
        ("a: [1, 2\nb: 3\n", "r.yml:1:4"),
        ("a: 1\n--- \nb: 2\n", "r.yml:2:1"),
        ("a: !!python/object:os.system x\n", "r.yml:1:4"),
        ("a: *nowhere\n", "r.yml:1:4"),
    ],
)
def test_what_does_not_parse_is_refused_with_line_and_column(text: str, place: str) -> None:
    assert message(text).startswith(f"{place}: ")


def test_a_key_given_twice_is_refused_with_both_lines() -> None:
    said = message("a: 1\nb:\n  c: 1\n  d: 2\n  c: 3\n")
    assert "r.yml:5: " in said
    assert "'c' is there twice" in said
    assert "line 3" in said


def test_a_key_given_twice_on_one_line_is_refused() -> None:
    assert "'c' is there twice" in message("b: {c: 1, c: 2}\n")


def test_a_merge_key_may_be_overridden() -> None:
    text = "x: &x {a: 1, b: 2}\ny:\n  <<: *x\n  b: 3\n"
    document = yamltext.parse(text, label="r.yml")
    assert document.value["y"] == {"a": 1, "b": 3}
    assert document.where(["y", "b"]) == "r.yml:4"


def test_an_alias_bomb_is_refused_at_once() -> None:
    levels = "".join(f"k{n}: &k{n} [{', '.join([f'*k{n - 1}'] * 9)}]\n" for n in range(1, 20))
    assert "unfolds" in message(f"k0: &k0 [1]\n{levels}")


def test_an_alias_within_itself_is_refused() -> None:
    assert "r.yml:1: an alias refers to what it is a part of" in message("a: &a [*a]\n")


def test_nesting_without_end_is_refused() -> None:
    assert "nested too deep" in message("a: " + "[" * 2000)


def test_a_value_that_cannot_be_built_is_refused_with_its_line() -> None:
    assert message("a: 1\nb: 2024-13-45\n").startswith("r.yml:2: ")


def test_a_control_character_is_refused_with_its_line() -> None:
    assert message("a: 1\nb: \x07\n").startswith("r.yml:2: the character U+0007")


def test_an_empty_file_is_refused(load: Load) -> None:
    with pytest.raises(Refused, match="is empty"):
        load("")
    with pytest.raises(Refused, match="is empty"):
        load("# only a comment\n")


def test_a_list_at_the_top_is_refused(load: Load) -> None:
    with pytest.raises(Refused, match=r"my recipe.yml:1: .* this is a list"):
        load("- a\n- b\n")


def test_a_key_that_yaml_bends_is_refused_with_its_line(load: Load) -> None:
    with pytest.raises(Refused, match=r"my recipe.yml:2: YAML does not take the key 'on' as text"):
        load("base_model: m\non: 3\n")


@pytest.mark.parametrize("content", [b"\0\1\2", "a: ü".encode("latin-1"), "a: 1".encode("utf-16")])
def test_what_is_not_utf8_text_is_refused(folder: Path, content: bytes) -> None:
    (folder / "r.yml").write_bytes(content)
    with pytest.raises(Refused, match="text"):
        recipe.load("r.yml", cwd=folder)


def test_a_byte_order_mark_does_no_harm(folder: Path) -> None:
    (folder / "r.yml").write_bytes(b"\xef\xbb\xbfbase_model: m\n")
    assert recipe.load("r.yml", cwd=folder).config == {"base_model": "m"}


def test_a_folder_is_bad_input(folder: Path) -> None:
    (folder / "sub").mkdir()
    with pytest.raises(BadInput, match="is a folder"):
        recipe.load("sub", cwd=folder)


def test_a_pipe_is_bad_input_and_is_not_waited_for(folder: Path) -> None:
    os.mkfifo(folder / "pipe.yml")
    with pytest.raises(BadInput, match="not a regular file"):
        recipe.load("pipe.yml", cwd=folder)


def test_a_huge_file_is_refused(folder: Path) -> None:
    (folder / "r.yml").write_bytes(b"a" * (2 << 20))
    with pytest.raises(Refused, match="larger than 1 MiB"):
        recipe.load("r.yml", cwd=folder)


def test_a_missing_file_is_bad_input_on_one_line(folder: Path) -> None:
    with pytest.raises(BadInput) as caught:
        recipe.load("no\nsuch.yml", cwd=folder)
    assert r"no\nsuch.yml" in caught.value.message
    assert "\n" not in caught.value.message


def test_a_name_too_long_for_the_disk_is_bad_input(folder: Path) -> None:
    with pytest.raises(BadInput, match="there is no recipe"):
        recipe.load("x" * 5000, cwd=folder)


def test_where_gives_the_line_of_a_key_of_an_entry_and_of_the_nearest_above(load: Load) -> None:
    found = load("base_model: m\ndatasets:\n  - path: a\n  - path: b\n    type: alpaca\n")
    assert found.where("datasets[1].type") == "my recipe.yml:5"
    assert found.where(["datasets", 1, "path"]) == "my recipe.yml:4"
    assert found.where("datasets[1].absent") == "my recipe.yml:4"
    assert found.where("absent") == "my recipe.yml:1"


def test_scalars_alone_mean_what_they_mean_in_a_file() -> None:
    for text in (
        "true",
        "8",
        "2e-4",
        "2.0e-4",
        "",
        "~",
        "0x1F",
        "1_000",
        "x: y",
        "a #b",
        "=",
        "<<",
    ):
        value = yamltext.scalar(text)
        try:
            expected = yaml.safe_load(f"k: {text}\n")["k"]
        except yaml.YAMLError:
            expected = text
        if text == "a #b":
            expected = text  # on the command line nothing is a comment
        assert value == expected, text
