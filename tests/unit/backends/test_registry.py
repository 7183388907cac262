"""Backends are found by the names their distributions register."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from backends import registry
from backends.errors import BadInput
from backends.local import Local

Register = Callable[..., None]


@pytest.fixture
def register(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Register:
    """Put a distribution on the path that registers a backend."""

    def add(distribution: str, name: str, value: str, module: str = "") -> None:
        site = tmp_path / distribution
        info = site / f"{distribution}-1.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1\n")
        (info / "entry_points.txt").write_text(f"[{registry.GROUP}]\n{name} = {value}\n")
        if module:
            (site / f"{value.partition(':')[0]}.py").write_text(module)
        monkeypatch.syspath_prepend(str(site))

    return add


def test_local_is_there(tmp_path: Path) -> None:
    assert "local" in registry.names()
    assert isinstance(registry.load("local", state_dir=tmp_path), Local)


def test_local_takes_no_detail(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no detail"):
        registry.load("local:gpu", state_dir=tmp_path)


def test_a_misspelled_name_is_answered_with_the_right_one(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as caught:
        registry.load("lcoal", state_dir=tmp_path)
    assert "'local'" in caught.value.hint


def test_the_detail_reaches_the_factory(register: Register, tmp_path: Path) -> None:
    register("one", "echo", "echo_backend:factory", "def factory(options): return options")
    options = registry.load("echo:some:thing", state_dir=tmp_path)
    assert options.detail == "some:thing"  # type: ignore[attr-defined]
    assert options.state_dir == tmp_path / "echo"  # type: ignore[attr-defined]


def test_a_backend_that_breaks_on_import_is_a_sentence(register: Register, tmp_path: Path) -> None:
    register("one", "broken", "broken_on_import:factory", "1 / 0")
    with pytest.raises(BadInput, match="division by zero") as caught:
        registry.load("broken", state_dir=tmp_path)
    assert "one" in caught.value.hint
    assert isinstance(registry.load("local", state_dir=tmp_path), Local)


def test_two_distributions_cannot_share_a_name(register: Register, tmp_path: Path) -> None:
    register("one", "same", "first_module:factory")
    register("two", "same", "second_module:factory")
    with pytest.raises(BadInput) as caught:
        registry.load("same", state_dir=tmp_path)
    assert "one" in caught.value.message
    assert "two" in caught.value.message
    assert isinstance(registry.load("local", state_dir=tmp_path), Local)
