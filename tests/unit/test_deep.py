"""`validate --deep`: what is asked, what is kept, and what the answer comes to.

That axolotl itself answers is shown in tests/e2e/test_deep.py.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backends.errors import Refused
from launcher import bundle, deep, environment, recipe
from launcher.deep import Deep, Rows, memory, problems
from launcher.workers import look_deep

TEXT = """\
base_model: o/m
datasets:
- path: d.jsonl
  type: alpaca
sequence_len: 64
learning_rate: 0.1
"""
ROWS = Rows(
    limit=64, strategy="drop", rows=10, left=10, tokens=300, trained=100, longest=40,
    long=0, short=0, nothing=0,
)  # fmt: skip
GOOD = Deep("A100 (compute capability 8.0)", (), "", (ROWS,), (((False, "ask "), (True, "say")),))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "r.yml").write_text(TEXT)
    row = {"instruction": "a", "input": "", "output": "b"}
    (tmp_path / "d.jsonl").write_text(json.dumps(row) + "\n")
    monkeypatch.setenv("FTLAUNCH_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def question(config: dict[str, Any], folder: Path, gpu: tuple[int, int] | None = (8, 0)) -> Any:
    gathered = bundle.gather(recipe.load("r.yml", cwd=folder))
    return memory.Question("cpu-1", Path(look_deep.__file__), config, gpu, 1, gathered)


BASE: dict[str, Any] = {"base_model": "o/m", "sequence_len": 64, "learning_rate": 0.1}


@pytest.mark.parametrize(
    ("changed", "verdict", "rows"),
    [
        ({}, True, True),
        ({"learning_rate": 0.2}, False, True),
        ({"sequence_len": 65}, False, False),
        ({"chat_template": "chatml"}, False, False),
        ({"a_key_that_nobody_knows": 1}, False, False),
    ],
)
def test_an_answer_is_kept_under_what_it_follows_from(
    here: Path, changed: dict[str, Any], verdict: bool, rows: bool
) -> None:
    first, then = question(BASE, here), question({**BASE, **changed}, here)
    assert (first.verdict_key == then.verdict_key) is verdict
    assert (first.rows_key == then.rows_key) is rows


def test_another_gpu_is_another_verdict_and_the_same_rows(here: Path) -> None:
    first, then = question(BASE, here), question(BASE, here, (7, 5))
    assert first.verdict_key != then.verdict_key
    assert first.rows_key == then.rows_key
    assert replace(first, environment="cpu-2").rows_key != first.rows_key


def test_other_data_are_other_rows(here: Path) -> None:
    first = question(BASE, here)
    with (here / "d.jsonl").open("a") as file:
        file.write('{"instruction": "c", "input": "", "output": "d"}\n')
    then = question(BASE, here)
    assert first.rows_key != then.rows_key


def test_what_failed_is_asked_again_and_the_oldest_answers_go(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "MOST_KEPT", 2)
    asked = question(BASE, here)
    answer = {"refused": [], "failed": "no network", "datasets": [], "samples": []}
    memory.keep(asked, answer, answer)
    verdict, rows = memory.recall(asked)
    assert verdict is not None
    assert rows is None
    for age, rate in enumerate((0.2, 0.3, 0.4)):
        other = question({**BASE, "learning_rate": rate}, here)
        memory.keep(other, answer, answer)
        path = here / "cache" / "deep" / f"{other.verdict_key}.json"
        os.utime(path, (age + 10, age + 10))
    assert memory.recall(asked)[0] is not None  # the newest by its time
    assert len(list((here / "cache" / "deep").glob("*.json"))) == 2


def test_a_kept_answer_that_is_broken_is_none(here: Path) -> None:
    asked = question(BASE, here)
    good = {"refused": [], "failed": "", "datasets": [], "samples": []}
    memory.keep(asked, good, good)
    for text in ("{", "[]", "{}", '{"refused": []}'):
        (here / "cache" / "deep" / f"{asked.rows_key}.json").write_text(text)
        assert memory.recall(asked)[1] is None


def test_a_gpu_nobody_knows_cannot_be_pretended(here: Path) -> None:
    with pytest.raises(Refused, match="cannot be pretended") as caught:
        deep.look(recipe.load("r.yml", cwd=here), "Zeus 3")
    assert "-g" in caught.value.hint


def test_a_worker_that_dies_is_one_sentence_with_its_last_lines(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix = here / "env"
    python = environment.python_of(prefix)
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\necho first\necho 'killed by something' >&2\nexit 3\n")
    python.chmod(0o755)
    monkeypatch.setattr(environment, "ensure", lambda *_, **__: prefix)
    before = sorted(here.iterdir())
    with pytest.raises(Refused, match=r"exit code 3") as caught:
        deep.look(recipe.load("r.yml", cwd=here), "A100")
    assert "killed by something" in caught.value.hint
    assert sorted(here.iterdir()) == sorted([*before, here / "cache"])
    assert not list((here / "cache" / "deep").iterdir())


def said(here: Path, found: Deep) -> list[str]:
    told = problems.problems(recipe.load("r.yml", cwd=here), found)
    return [f"{each.severity}: {each}" for each in told]


def test_rows_that_all_train_are_no_problem(here: Path) -> None:
    assert said(here, GOOD) == []
    assert problems.counts(GOOD) == [
        "datasets: 10 of 10 rows stay, 300 tokens, 100 of them trained on; the longest row has 40"
    ]


@pytest.mark.parametrize(
    ("rows", "severity", "words"),
    [
        (replace(ROWS, long=3, left=7), "warning: r.yml:5", "3 of 10 rows of datasets have more"),
        (replace(ROWS, long=3, left=7), "warning", "axolotl drops them"),
        (replace(ROWS, long=3, strategy="truncate"), "warning", "cuts off what is more"),
        (replace(ROWS, short=1, left=9), "warning: r.yml:2", "next to empty"),
        (replace(ROWS, nothing=2), "warning: r.yml:2", "2 of 10 rows of datasets have nothing"),
    ],
)
def test_rows_that_do_not_train_as_they_stand_are_told(
    here: Path, rows: Rows, severity: str, words: str
) -> None:
    (told,) = said(here, replace(GOOD, datasets=(rows,)))
    assert told.startswith(severity)
    assert words in told


def test_what_axolotl_refuses_stands_at_its_line(here: Path) -> None:
    refused = (("datasets.0.type", "is odd"), ("", "bf16 requested"), ("no.such", "is gone"))
    told = said(here, replace(GOOD, refused=refused, datasets=()))
    assert told[0].startswith("error: r.yml:4: axolotl refuses it on A100 (compute capability 8.0)")
    assert told[1].endswith("bf16 requested")
    assert len(told) == 3
    (told_of,) = said(here, replace(GOOD, failed="no tokenizer", datasets=()))
    assert told_of.endswith("axolotl cannot prepare the data: no tokenizer")


def test_a_row_is_cut_into_what_is_masked_and_what_is_trained() -> None:
    decode = "".join
    ids: Any = list("ask answer")
    labels = [look_deep.IGNORED] * 4 + [1] * 6
    assert look_deep.runs(ids, labels, decode) == [[False, "ask "], [True, "answer"]]
    assert look_deep.runs([], [], decode) == []
    many: Any = ["x"] * (look_deep.MOST_TOKENS + 5)
    pieces = look_deep.runs(many, [1] * len(many), decode)
    assert pieces[-1] == [False, "… and 5 tokens more"]
    assert len(pieces[0][1]) == look_deep.MOST_TOKENS
