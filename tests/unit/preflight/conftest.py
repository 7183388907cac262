from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from launcher import preflight, recipe
from launcher.preflight import Problem


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    odd = tmp_path / "-p 'q\n ü"
    odd.mkdir()
    return odd


@pytest.fixture
def examine(folder: Path) -> Callable[[str], list[Problem]]:
    """What is found in a recipe with this text."""

    def write_and_examine(text: str) -> list[Problem]:
        (folder / "r.yml").write_text(text, "utf-8")
        return preflight.examine(recipe.load("r.yml", cwd=folder))

    return write_and_examine
