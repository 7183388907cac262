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


RATE = "learning_rate: 0.0002\n"
"""What every recipe needs, and most tests are not about: put where it moves no line of theirs."""


def with_rate(text: str) -> str:
    if "learning_rate" in text:
        return text
    if "\nconfig:\n" in f"\n{text}":
        return text.replace("config:\n", f"config:\n  {RATE}", 1)
    return text if text.endswith("]") else text + RATE


@pytest.fixture
def examine(folder: Path) -> Callable[[str], list[Problem]]:
    """What is found in a recipe with this text."""

    def write_and_examine(text: str) -> list[Problem]:
        (folder / "r.yml").write_text(with_rate(text), "utf-8")
        return preflight.examine(recipe.load("r.yml", cwd=folder))

    return write_and_examine
