"""The whole disk, or a home folder, where a data set or model belongs."""

from __future__ import annotations

from pathlib import Path

import pytest

from backends.errors import Refused
from launcher import bundle, preflight, recipe
from launcher.recipe.references import is_vast

TEXT = "base_model: '{model}'\ndatasets:\n- path: '{data}'\n  type: alpaca\nlearning_rate: 0.1\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home" / "ada"
    (home / "work" / "data").mkdir(parents=True)
    row = '{"instruction": "a", "input": "", "output": "b"}\n'
    (home / "work" / "data" / "d.jsonl").write_text(row)
    monkeypatch.setenv("HOME", str(home))
    return home / "work"


def load(here: Path, model: str, data: str) -> recipe.Recipe:
    (here / "r.yml").write_text(TEXT.format(model=model, data=data))
    return recipe.load("r.yml", cwd=here)


@pytest.mark.parametrize("data", ["/", "~", "~/", "..", "../..", "/tmp/..", "/."])
def test_it_is_refused_at_its_line_before_anything_is_read(here: Path, data: str) -> None:
    (told,) = preflight.examine(load(here, "o/m", data))
    assert (told.severity, told.where) == ("error", "r.yml:3")
    assert "whole disk or your home folder" in told.message
    assert "data set" in told.fix
    with pytest.raises(Refused, match=r"r\.yml:3: .*whole disk"):
        bundle.gather(load(here, "o/m", data))


def test_a_model_too(here: Path) -> None:
    (told,) = preflight.examine(load(here, "~", "data"))
    assert (told.severity, told.where) == ("error", "r.yml:1")


@pytest.mark.parametrize("data", ["data", ".", "~/work"])
def test_a_folder_of_the_users_is_taken(here: Path, data: str) -> None:
    assert preflight.examine(load(here, "o/m", data)) == []
    assert bundle.gather(load(here, "o/m", data)).size_bytes > 0


def test_a_home_folder_is_fine_where_the_files_in_it_are_named(here: Path) -> None:
    (here / "r.yml").write_text(
        TEXT.format(model="o/m", data="..").replace(
            "  type", "  data_files: ../work/data/d.jsonl\n  type"
        )
    )
    assert preflight.examine(recipe.load("r.yml", cwd=here)) == []


def test_what_is_vast(here: Path) -> None:
    assert [is_vast(here / way) for way in ("", "data", "..", "../..", "../../x")] == [
        False, False, True, True, False,
    ]  # fmt: skip
