"""The pages of the examples: every command on them is run as it stands, with real axolotl."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from launcher import environment

pytestmark = [pytest.mark.axolotl, pytest.mark.timeout(900)]

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module", autouse=True)
def axolotl() -> None:
    """The managed environment, made before the first command needs it."""
    environment.ensure(environment.choose({}, gpu=False))


def commands(page: str) -> list[str]:
    """The blocks of a page that are marked as commands."""
    return re.findall(
        r"^```sh\n(.*?)^```$", (DOCS / page).read_text("utf-8"), re.MULTILINE | re.DOTALL
    )


def followed(desk: Any, page: str, *, fails: str = "") -> list[str]:
    """What each block printed. All must succeed but one that holds `fails`, which must exit 1."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    said = []
    for block in commands(page):
        ended = subprocess.run(
            ["bash", "-e", "-c", block],
            cwd=desk.here,
            env={**desk.environ, "PATH": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        wanted = 1 if fails and fails in block else 0
        assert ended.returncode == wanted, f"{block}\n{ended.stdout[-6000:]}"
        said.append(ended.stdout)
    assert len(said) > 1
    return said


def came_home(desk: Any, run: str) -> None:
    output = desk.here / "runs" / run / "output"
    assert (output / "adapter_model.safetensors").exists()
    assert (output / "merged" / "model.safetensors").exists()


@pytest.mark.seldom
def test_the_axolotl_quickstart(desk: Any) -> None:
    said = followed(desk, "lora-1b.md")
    came_home(desk, "first")
    assert "L4 x 1" in said[1]
    assert (desk.here / "lora-1b" / "tiny" / "model" / "model.safetensors").exists()


@pytest.mark.seldom
def test_a_small_set_is_learnt_by_heart(desk: Any) -> None:
    _, answer, _ = followed(desk, "memorize-sql.md")
    came_home(desk, "heart")
    rows = [
        json.loads(line)
        for path in sorted((desk.state / "backends").rglob("metrics/*.jsonl"))
        for line in path.read_text().splitlines()
    ]
    losses = [float(row["loss"]) for row in rows if "loss" in row]
    assert losses[0] > 3
    assert losses[-1] < 0.1
    assert re.search(r"\[SQL\] SELECT .* \[/SQL\]", answer), answer


def test_plain_words_to_a_query(desk: Any) -> None:
    said = followed(desk, "honeycomb.md", fails="check_queries.py")
    assert "+    type: chat_template" in said[0]
    came_home(desk, "hive")
    held_out = (desk.here / "honeycomb/data/honeycomb/heldout.jsonl").read_text().splitlines()
    answers = (desk.here / "answers.jsonl").read_text().splitlines()
    assert len(answers) == len(held_out)
    assert all("answer" in json.loads(line) for line in answers)
    assert f"of {len(held_out)} answers are valid queries" in said[2]
