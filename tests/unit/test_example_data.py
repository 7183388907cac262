"""The examples' data are what their script writes, and the old honeycomb recipe is the new one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from launcher.migrate import migrate

ROOT = Path(__file__).resolve().parents[2]
HONEYCOMB = ROOT / "configs" / "data" / "honeycomb"
CHECKER = HONEYCOMB / "check_queries.py"


def rows(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def checked(path: Path) -> tuple[int, str]:
    ended = subprocess.run(
        [sys.executable, CHECKER, path], capture_output=True, text=True, check=False
    )
    assert "Traceback" not in ended.stderr
    return ended.returncode, ended.stdout + ended.stderr


def test_what_is_committed_is_what_the_script_writes() -> None:
    script = ROOT / "scripts" / "make_example_data.py"
    subprocess.run([sys.executable, script, "--check"], check=True)


def test_the_shapes_are_those_of_the_originals() -> None:
    data = ROOT / "configs" / "data"
    alpaca = rows(data / "lora-1b" / "train.jsonl")
    assert {tuple(row) for row in alpaca} == {("instruction", "input", "output")}
    sql = rows(data / "memorize-sql" / "train.jsonl")
    assert {tuple(row) for row in sql} == {("question", "context", "answer")}
    assert all(r["answer"].startswith("[SQL] ") and r["answer"].endswith(" [/SQL]") for r in sql)
    honeycomb = rows(HONEYCOMB / "train.jsonl")
    assert len(honeycomb) == 100
    assert {tuple(m["from"] for m in row["conversations"]) for row in honeycomb} == {
        ("human", "gpt")
    }
    asked = {row["conversations"][0]["value"] for row in honeycomb}
    assert not asked & {row["prompt"] for row in rows(HONEYCOMB / "heldout.jsonl")}


def test_the_old_form_migrated_is_the_bundled_config() -> None:
    found = migrate(str(HONEYCOMB / "honeycomb-2024.yml"), cwd=ROOT)
    assert not found.by_hand
    assert [compared.same for compared in found.prompts] == [True]
    meant = yaml.safe_load(found.after)
    meant["datasets"][0]["path"] = "data/honeycomb/train.jsonl"
    assert meant == yaml.safe_load((ROOT / "configs" / "honeycomb.yml").read_text("utf-8"))


def test_every_query_in_the_data_is_valid(tmp_path: Path) -> None:
    said = [row["conversations"] for row in rows(HONEYCOMB / "train.jsonl")]
    answers = [{"prompt": m[0]["value"], "answer": m[1]["value"]} for m in said]
    answers += [row | {"answer": row["expected"]} for row in rows(HONEYCOMB / "heldout.jsonl")]
    path = tmp_path / "answers.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in answers))
    assert checked(path) == (0, "112 of 112 answers are valid queries, 12 are right\n")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("SELECT 1", "it is not JSON"),
        ('{"limit": NaN}', "it is not JSON"),
        ("[]", "it is not an object"),
        ("{}", "it asks for nothing"),
        ('{"breakdowns": ["hosst"]}', "there is no column hosst"),
        ('{"breakdowns": [["host"]]}', "there is no column ['host']"),
        ('{"breakdowns": ["host"], "group": 1}', "there is no key group"),
        ('{"calculations": [{"op": "P96", "column": "host"}]}', "there is no operation P96"),
        ('{"calculations": [{"op": ["P95"]}]}', "there is no operation ['P95']"),
        ('{"calculations": [{"op": "COUNT", "column": "host"}]}', "COUNT takes no column"),
        ('{"breakdowns": ["host"], "filters": [3]}', "a filter is not an object"),
        ('{"breakdowns": ["host"], "filters": [{"column": "host", "op": "~"}]}', "comparison ~"),
        ('{"breakdowns": ["host"], "filters": [{"column": "host", "op": []}]}', "comparison []"),
        ('{"breakdowns": ["host"], "orders": [{"op": "COUNT"}]}', "neither ascending nor"),
        ('{"breakdowns": ["host"], "orders": [{"op": "COUNT", "order": {}}]}', "neither ascending"),
        ('{"breakdowns": ["host"], "limit": 0}', "limit is not a number from 1"),
        ('{"breakdowns": ["host"], "limit": true}', "limit is not a number from 1"),
        ('{"breakdowns": ["host"], "time_range": "1h"}', "time_range is not a number"),
    ],
)
def test_what_is_wrong_with_an_answer_is_said(tmp_path: Path, answer: str, said: str) -> None:
    path = tmp_path / "answers.jsonl"
    row = {"prompt": "NLQ: x\n\nColumns: ['host']", "answer": answer}
    path.write_text(json.dumps(row) + "\n")
    code, told = checked(path)
    assert code == 1
    assert said in told


def test_a_file_of_something_else_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    assert checked(path)[0] == 2
    for text in ("{", "[1]\n", '{"prompt": "no columns"}\n', '{"prompt": 3}\n'):
        path.write_text(text)
        assert checked(path)[0] == 2
