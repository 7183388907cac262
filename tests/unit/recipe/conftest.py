from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from launcher import recipe
from launcher.recipe import Recipe


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a name that spoils everything that is not careful."""
    odd = tmp_path / "-o 'd\"d\n ü [x]"
    odd.mkdir()
    return odd


@pytest.fixture
def load(folder: Path) -> Callable[..., Recipe]:
    """Write a recipe's text to the odd folder and load it from there."""

    def write_and_load(text: str, **options: object) -> Recipe:
        (folder / "my recipe.yml").write_text(text, "utf-8")
        return recipe.load("my recipe.yml", cwd=folder, **options)  # type: ignore[arg-type]

    return write_and_load
