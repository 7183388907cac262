"""The quickstart's data are what its script writes, and its held-out rows are held out."""

import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launcher.scoring import canonical

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "make_quickstart_data.py"


@pytest.fixture(scope="module")
def script() -> Any:
    spec = importlib.util.spec_from_file_location("make_quickstart_data", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_what_is_committed_is_what_the_script_writes() -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT, "--check"], check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr.strip()) == (0, "")


def test_enough_rows_and_every_answer_is_json(script: Any) -> None:
    train = (script.FOLDER / "train.jsonl").read_text().splitlines()
    held_out = (script.FOLDER / "heldout.jsonl").read_text().splitlines()
    assert len(train) >= 400
    assert len(held_out) >= 24
    assert all(canonical(json.loads(row)["messages"][1]["content"]) for row in train)
    assert all(canonical(json.loads(row)["expected"]) for row in held_out)


def leak_a_row(train: list[str], held_out: list[str]) -> None:
    row = json.loads(train[0])["messages"]
    held_out[0] = json.dumps({"prompt": row[0]["content"], "expected": row[1]["content"]})


def reorder(train: list[str], held_out: list[str]) -> None:
    train.reverse()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [(leak_a_row, "held out, but in training"), (reorder, "train.jsonl is not what")],
)
def test_check_finds_what_is_wrong(
    script: Any, tmp_path: Path, spoil: Callable[[list[str], list[str]], None], said: str
) -> None:
    folder = tmp_path / "quickstart"
    shutil.copytree(script.FOLDER, folder)
    train, held_out = folder / "train.jsonl", folder / "heldout.jsonl"
    rows = train.read_text().splitlines(), held_out.read_text().splitlines()
    spoil(*rows)
    train.write_text("\n".join(rows[0]) + "\n")
    held_out.write_text("\n".join(rows[1]) + "\n")
    assert any(said in problem for problem in script.problems(folder))
