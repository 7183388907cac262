"""What a recipe asks for, read from the recipe and its data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from backends.errors import BadInput
from launcher import recipe as recipes
from launcher.quotes import in_bytes, workload
from launcher.quotes import rows as rows_of
from launcher.quotes.in_bytes import BYTES_PER_TOKEN, TEMPLATE_TOKENS
from launcher.quotes.workload import Workload

LLAMA = {"base_model": "meta-llama/Llama-3.1-8B", "adapter": "lora", "lora_target_linear": True}


def work(folder: Path, rows: list[dict[str, Any]] | None, **config: Any) -> Workload:
    found = {**LLAMA, "sequence_len": 512, "micro_batch_size": 2, **config}
    if rows is not None:
        (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        found["datasets"] = [{"path": "rows.jsonl", "type": "alpaca"}]
    (folder / "mine.yml").write_text(yaml.safe_dump(found))
    return workload.of(recipes.load(str(folder / "mine.yml"), cwd=folder))


def rows(*characters: int) -> list[dict[str, Any]]:
    return [{"instruction": "x" * number, "input": "", "output": ""} for number in characters]


def test_rows_are_counted_in_bytes_and_padded_to_their_batch(tmp_path: Path) -> None:
    text = round(100 * BYTES_PER_TOKEN)
    found = work(tmp_path, rows(*[text] * 4))
    assert found.data is not None
    assert found.data.rows == 4
    assert found.data.tokens == 4 * (100 + TEMPLATE_TOKENS)
    assert found.setup_fed.seq_len == 100 + TEMPLATE_TOKENS
    assert "counted in bytes" in found.data.how


def test_a_batch_is_as_long_as_its_longest_row(tmp_path: Path) -> None:
    short, long = round(10 * BYTES_PER_TOKEN), round(200 * BYTES_PER_TOKEN)
    found = work(tmp_path, rows(short, long))
    assert found.data is not None
    assert found.data.tokens == 2 * (200 + TEMPLATE_TOKENS)
    assert found.setup_longest.seq_len == 200 + TEMPLATE_TOKENS


def test_rows_are_cut_at_the_sequence_length(tmp_path: Path) -> None:
    found = work(tmp_path, rows(100_000))
    assert found.data is not None
    assert found.data.tokens == 512


def test_packed_rows_are_full_whatever_the_data_are_like(tmp_path: Path) -> None:
    text = round(50 * BYTES_PER_TOKEN)
    found = work(tmp_path, rows(*[text] * 1000), sample_packing=True)
    assert found.data is not None
    assert found.data.tokens == round(1000 * (50 + TEMPLATE_TOKENS) / rows_of.PACKED)
    assert found.setup_fed.seq_len == found.setup_longest.seq_len == 512


def test_a_large_file_is_looked_at_in_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = round(1000 * BYTES_PER_TOKEN)
    whole = work(tmp_path, rows(*[text] * 60), sequence_len=2048)
    monkeypatch.setattr(in_bytes, "MOST_ROWS", 20)
    part = work(tmp_path, rows(*[text] * 60), sequence_len=2048)
    assert whole.data is not None
    assert part.data is not None
    assert part.data.rows == pytest.approx(whole.data.rows, rel=0.3)


def test_data_that_are_elsewhere_are_not_guessed(tmp_path: Path) -> None:
    found = work(tmp_path, None, datasets=[{"path": "tatsu-lab/alpaca", "type": "alpaca"}])
    assert found.data is None
    assert "tatsu-lab/alpaca are not on this computer" in found.why_no_data
    told = workload.of(recipes.load(str(tmp_path / "mine.yml"), cwd=tmp_path), tokens=1_000_000)
    assert told.data is not None
    assert told.data.tokens == 1_000_000


def test_a_model_that_lies_here_says_its_own_shape() -> None:
    found = workload.of(recipes.load("tiny", cwd=Path.cwd()))
    assert 0 < found.shape.params < 1_000_000


def test_an_unknown_model_is_one_sentence_with_a_way_out(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="the shape of me/secret-9000 is not known") as told:
        work(tmp_path, rows(10), base_model="me/secret-9000")
    assert told.value.hint
