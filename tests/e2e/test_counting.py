"""Tokens are counted as axolotl itself makes them: compared with what its preprocessing wrote."""

from __future__ import annotations

import json
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from launcher import environment
from launcher import recipe as recipes
from launcher.bundled import configs_dir
from launcher.quotes import counting
from launcher.quotes.counting import Wanted
from launcher.quotes.rows import Counted

pytestmark = [pytest.mark.axolotl, pytest.mark.timeout(900)]

PREPARED = """
import json, sys
from datasets import load_from_disk
print(json.dumps([len(row) for row in load_from_disk(sys.argv[1])["input_ids"]]))
"""

WORDS = ("the", "a", "model", "learns", "rows", "slowly", "and", "each", "of", "commas", "antelope")


@pytest.fixture(scope="session")
def python() -> Path:
    return environment.python_of(environment.ensure(environment.choose({}, gpu=False)))


def text(chance: random.Random, most: int) -> str:
    return " ".join(chance.choices(WORDS, k=chance.randint(1, most)))


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def config(folder: Path, **changes: Any) -> dict[str, Any]:
    made = {
        "base_model": str(configs_dir() / "tiny" / "model"),
        "chat_template": "chatml",
        "sequence_len": 128,
        "micro_batch_size": 1,
        "gradient_accumulation_steps": 1,
        "learning_rate": 0.001,
        "output_dir": str(folder / "out"),
        "dataset_prepared_path": str(folder / "prepared"),
        "bf16": False,
        "flash_attention": False,
        **changes,
    }
    (folder / "mine.yml").write_text(yaml.safe_dump(made))
    return made


def counted(folder: Path) -> list[Counted]:
    wanted = counting.of(recipes.load(str(folder / "mine.yml"), cwd=folder))
    assert isinstance(wanted, Wanted), wanted
    found = wanted.count()
    assert isinstance(found, list), found
    return found


def test_every_row_has_the_tokens_that_preprocessing_makes(tmp_path: Path, python: Path) -> None:
    chance = random.Random(1)
    turns = [
        {
            "messages": [
                {"role": role, "content": text(chance, 90)} for role in ("user", "assistant")
            ]
        }
        for _ in range(60)
    ]
    asked = [
        {"instruction": text(chance, 30), "input": "", "output": text(chance, 30)}
        for _ in range(60)
    ]
    plain = [{"text": text(chance, 200)} for _ in range(30)]
    write(tmp_path / "turns.jsonl", turns)
    write(tmp_path / "asked.jsonl", asked)
    write(tmp_path / "plain.jsonl", plain)
    sets = [("turns", "chat_template"), ("asked", "alpaca"), ("plain", "completion")]
    config(tmp_path, datasets=[{"path": f"{n}.jsonl", "type": kind} for n, kind in sets])
    found = counted(tmp_path)

    subprocess.run(
        [python, "-m", "axolotl.cli.preprocess", "mine.yml"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        env={"AXOLOTL_DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1", "HOME": str(tmp_path)},
    )
    (prepared,) = (path for path in (tmp_path / "prepared").iterdir() if path.is_dir())
    made = subprocess.run(
        [python, "-c", PREPARED, str(prepared)], check=True, capture_output=True, text=True
    )
    lengths = sorted(json.loads(made.stdout.splitlines()[-1]))
    assert sorted(n for each in found for n in each.lengths) == lengths
    assert max(lengths) <= 128
    assert sum(each.rows for each in found) == len(lengths)


def test_a_preference_pair_is_fed_twice(tmp_path: Path, python: Path) -> None:
    assert python.exists()
    rows = [
        {"system": "", "question": "the model", "chosen": "a model learns", "rejected": "a"}
    ] * 3
    write(tmp_path / "pairs.jsonl", rows)
    config(tmp_path, rl="dpo", datasets=[{"path": "pairs.jsonl", "type": "chatml.intel"}])
    (found,) = counted(tmp_path)
    assert found.rows == 3
    assert len(found.lengths) == 6
    chosen, rejected = found.lengths[:2]
    assert chosen > rejected > 0


def test_a_large_file_is_sampled(
    tmp_path: Path, python: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert python.exists()
    chance = random.Random(2)
    rows = [{"text": text(chance, 60)} for _ in range(8_000)]
    write(tmp_path / "plain.jsonl", rows)
    config(tmp_path, datasets=[{"path": "plain.jsonl", "type": "completion"}], sequence_len=512)
    (whole,) = counted(tmp_path)
    monkeypatch.setattr(counting, "MOST_BYTES", 100_000)
    (part,) = counted(tmp_path)
    assert part.times > 2
    assert part.rows == pytest.approx(8_000, rel=0.06)
    assert sum(part.lengths) * part.times == pytest.approx(
        sum(whole.lengths) * whole.times, rel=0.06
    )
