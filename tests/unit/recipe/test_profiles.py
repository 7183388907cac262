"""Profiles: other sizes of a recipe, in the recipe."""

from __future__ import annotations

from pathlib import Path

import pytest

from backends.errors import BadInput, Refused
from launcher import bundle, bundled, bundled_copy, preflight, recipe

TEXT = """\
config: {base_model: o/big, sequence_len: 2048, datasets: [{path: o/s, type: alpaca}]}
set: {micro_batch_size: 4}
hardware: {gpu: H100}
profiles:
  cpu:
    hardware: {gpu: cpu}
    steps: {merge: false}
    set:
      base_model: o/small
      micro_batch_size: 1
      datasets[0].path: o/few
  long: {set: {sequence_len: 8192}}
"""


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "r.yml").write_text(TEXT)
    return tmp_path


def test_a_profile_is_put_over_the_recipes_own_settings(here: Path) -> None:
    found = recipe.load("r.yml", profile="cpu", cwd=here)
    assert found.config["base_model"] == "o/small"
    assert found.config["micro_batch_size"] == 1
    assert found.config["datasets"][0]["path"] == "o/few"
    assert found.launch.hardware.gpus == (("cpu", 1),)
    assert (found.launch.steps.train, found.launch.steps.merge) == (True, False)
    assert found.where("base_model") == "r.yml:9"
    assert [change.why for change in found.changes][-1] == "the profile cpu"


def test_what_is_typed_wins_over_a_profile(here: Path) -> None:
    found = recipe.load("r.yml", profile="cpu", sets=["base_model=o/mine"], cwd=here)
    assert found.config["base_model"] == "o/mine"


def test_without_a_profile_nothing_of_it_shows(here: Path) -> None:
    found = recipe.load("r.yml", cwd=here)
    assert (found.config["base_model"], found.config["micro_batch_size"]) == ("o/big", 4)
    assert found.launch.hardware.gpus == (("H100", 1),)


def test_a_profile_without_hardware_keeps_the_recipes(here: Path) -> None:
    found = recipe.load("r.yml", profile="long", cwd=here)
    assert found.config["sequence_len"] == 8192
    assert found.launch.hardware.gpus == (("H100", 1),)


def test_an_unknown_profile_gets_a_guess(here: Path) -> None:
    with pytest.raises(BadInput, match="has no profile 'cpuu'") as caught:
        recipe.load("r.yml", profile="cpuu", cwd=here)
    assert "did you mean 'cpu'?" in caught.value.hint
    (here / "plain.yml").write_text("base_model: o/m\n")
    with pytest.raises(BadInput, match="has no profile 'cpu'") as caught:
        recipe.load("plain.yml", profile="cpu", cwd=here)
    assert "profiles:" in caught.value.hint


@pytest.mark.parametrize(
    ("old", "new", "said", "hint"),
    [
        ("    set:\n", "    sett:\n", "8: there is no launch key 'sett' in profiles.cpu", "'set'"),
        ("{gpu: cpu}", "{gpv: cpu}", "no launch key 'gpv' in profiles.cpu.hardware", "gpu"),
        ("datasets[0].path", "datasets[7].path", "r.yml:11: datasets[7].path cannot be set", ""),
        ("  long: {set: {sequence_len: 8192}}", "  long: 3", "profiles.long must be a mapping", ""),
    ],
)
def test_a_mistake_in_a_profile_names_its_place(
    here: Path, old: str, new: str, said: str, hint: str
) -> None:
    assert old in TEXT
    (here / "r.yml").write_text(TEXT.replace(old, new))
    with pytest.raises(Refused) as caught:
        recipe.load("r.yml", profile="cpu", cwd=here)
    assert said in caught.value.message
    assert hint in caught.value.hint


SIZED = [
    (name, profile)
    for name in bundled.recipe_names()
    for profile in recipe.load(name, cwd=Path("/")).launch.profiles
]


def test_each_of_the_three_examples_has_a_profile_for_a_cpu() -> None:
    assert {name for name, profile in SIZED if profile == "cpu"} == {
        "honeycomb", "lora-1b", "memorize-sql",
    }  # fmt: skip


@pytest.mark.parametrize(("name", "profile"), SIZED)
def test_a_bundled_profile_is_without_fault_and_is_copied_along(
    name: str, profile: str, tmp_path: Path
) -> None:
    found = recipe.load(name, profile=profile, cwd=tmp_path)
    assert preflight.examine(found) == []
    made = bundled_copy.copy_bundled(name, tmp_path / "mine")
    copy = recipe.load(str(made[0]), profile=profile, cwd=tmp_path)
    assert copy.config == found.config
    before, after = bundle.gather(found), bundle.gather(copy)
    assert [(f.at, f.sha256) for f in after.files] == [(f.at, f.sha256) for f in before.files]
    beside = bundled.configs_dir() / "data" / name
    copied = {path.name for path in (tmp_path / "mine" / "data" / name).iterdir()}
    assert copied == {path.name for path in beside.iterdir() if path.is_file()}
