"""Tokens that axolotl counts: what there is to count, and what is known of it already."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from launcher import recipe as recipes
from launcher.bundled import configs_dir
from launcher.quotes import counting, workload
from launcher.quotes.counting import Wanted
from launcher.quotes.workload import Workload
from launcher.workers import count_tokens

ROWS = [{"messages": [{"role": "user", "content": "hi"}]}] * 4

ANSWERS = """#!/bin/sh
cat > "$4" <<'END'
{answer}
END
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FTLAUNCH_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    return tmp_path / "cache"


def install(cache: Path, script: str) -> None:
    """An environment whose Python is a script: what is tested is what is made of its answer."""
    prefix = cache / "envs" / "cpu-test-py311"
    (prefix / "bin").mkdir(parents=True, exist_ok=True)
    (prefix / "site").mkdir(exist_ok=True)
    python = prefix / "bin" / "python"
    python.write_text(script)
    python.chmod(0o755)
    stamp = {
        "schema": 1, "flavour": "cpu", "extras": [], "python": "3.11", "made_at": "",
        "site": "site", "packages": [], "size_bytes": 0, "versions": {},
    }  # fmt: skip
    (prefix / "ftlaunch.json").write_text(json.dumps(stamp))


def answering(cache: Path, answer: Any) -> None:
    install(cache, ANSWERS.format(answer=json.dumps(answer)))


def recipe(folder: Path, **changes: Any) -> recipes.Recipe:
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    config = {
        "base_model": str(configs_dir() / "tiny" / "model"),
        "datasets": [{"path": "rows.jsonl", "type": "chat_template"}],
        "chat_template": "chatml",
        "adapter": "lora",
        "sequence_len": 64,
        "micro_batch_size": 2,
        **changes,
    }
    (folder / "mine.yml").write_text(yaml.safe_dump(config))
    return recipes.load(str(folder / "mine.yml"), cwd=folder)


def wanted(folder: Path, **changes: Any) -> Wanted:
    found = counting.of(recipe(folder, **changes))
    assert isinstance(found, Wanted), found
    return found


def work(folder: Path, **changes: Any) -> Workload:
    return workload.of(recipe(folder, **changes))


def test_what_was_counted_takes_the_place_of_bytes(tmp_path: Path, cache: Path) -> None:
    answering(cache, {"sets": [{"rows": 4, "looked": 4, "lengths": [10, 20, 30, 40]}]})
    before = work(tmp_path).data
    assert before is not None
    assert "counted in bytes" in before.how
    wanted(tmp_path).count()
    after = work(tmp_path).data
    assert after is not None
    assert after.how == "counted with the recipe's tokenizer and template"
    assert after.longest == 40
    assert 100 <= after.tokens <= 160  # padded to the longer of each two


def test_a_sample_stands_for_the_whole(tmp_path: Path, cache: Path) -> None:
    answering(cache, {"sets": [{"rows": 400, "looked": 4, "lengths": [10, 10, 10, 10]}]})
    wanted(tmp_path).count()
    found = work(tmp_path).data
    assert found is not None
    assert (found.rows, found.tokens) == (400, 4000)
    assert found.longest == 13  # longer rows may be among those that were not looked at
    assert "of 4 rows" in found.how


@pytest.mark.parametrize(
    "changes",
    [
        {"chat_template": "llama3"},
        {"sequence_len": 128},
        {"special_tokens": {"pad_token": "<pad>"}},
        {"datasets": [{"path": "rows.jsonl", "type": "completion"}]},
    ],
)
def test_what_tokens_depend_on_is_counted_anew(
    tmp_path: Path, cache: Path, changes: dict[str, Any]
) -> None:
    answering(cache, {"sets": []})
    assert wanted(tmp_path, **changes).key != wanted(tmp_path).key


def test_what_they_do_not_depend_on_is_not(tmp_path: Path, cache: Path) -> None:
    answering(cache, {"sets": []})
    before = wanted(tmp_path)
    os.utime(tmp_path / "rows.jsonl", (1, 1))
    assert wanted(tmp_path, learning_rate=0.5, micro_batch_size=1, adapter=None) == before


def test_other_rows_are_counted_anew(tmp_path: Path, cache: Path) -> None:
    answering(cache, {"sets": []})
    before = wanted(tmp_path).key
    again = recipe(tmp_path)
    (tmp_path / "rows.jsonl").write_text(json.dumps(ROWS[0]) + "\n")
    after = counting.of(again)
    assert isinstance(after, Wanted)
    assert after.key != before


def test_another_tokenizer_is_counted_anew(tmp_path: Path, cache: Path) -> None:
    answering(cache, {"sets": []})
    model = tmp_path / "model"
    model.mkdir()
    for name in ("config.json", "tokenizer.json"):
        (model / name).write_bytes((configs_dir() / "tiny" / "model" / name).read_bytes())
    before = wanted(tmp_path, base_model="./model").key
    told = json.loads((model / "tokenizer.json").read_text())
    (model / "tokenizer.json").write_text(json.dumps({**told, "version": "2.0"}))
    assert wanted(tmp_path, base_model="./model").key != before


def test_a_failure_is_said_and_not_tried_again(tmp_path: Path, cache: Path) -> None:
    answering(cache, {"failed": "KeyError: messages"})
    assert wanted(tmp_path).count() == "axolotl could not: KeyError: messages"
    assert wanted(tmp_path).known() == "axolotl could not: KeyError: messages"
    found = work(tmp_path).data
    assert found is not None
    assert found.how.startswith("counted in bytes")
    assert "KeyError: messages" in found.how


def test_a_failure_that_may_pass_is_said_and_tried_again(tmp_path: Path, cache: Path) -> None:
    answering(cache, {"failed": "OSError: no space left on device", "passing": True})
    assert wanted(tmp_path).count() == "axolotl could not: OSError: no space left on device"
    assert wanted(tmp_path).known() is None
    answering(cache, {"sets": [{"rows": 1, "looked": 1, "lengths": [1]}]})
    assert isinstance(wanted(tmp_path).count(), list)


@pytest.mark.parametrize(
    ("error", "passing"),
    [
        (OSError("full"), True),
        (MemoryError(), True),
        (ImportError("x"), True),
        (KeyError("x"), False),
    ],
)
@pytest.mark.parametrize("inside", [False, True])
def test_the_worker_says_what_may_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, passing: bool, inside: bool
) -> None:
    def fails(request: dict[str, Any], scratch: Path) -> list[dict[str, Any]]:
        if inside:
            raise ValueError("datasets says no more") from error
        raise error

    monkeypatch.setattr(count_tokens, "count", fails)
    monkeypatch.setenv("HF_DATASETS_CACHE", "")
    asked, answer = tmp_path / "asked.json", tmp_path / "answer.json"
    asked.write_text("{}")
    count_tokens.main(asked, answer)
    assert json.loads(answer.read_text())["passing"] is passing


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path, cache: Path) -> None:
    answering(cache, {"sets": []})
    (cache / "tokens").write_text("a file in its place")
    assert str(wanted(tmp_path).count()).startswith("it could not be counted: ")


@pytest.mark.parametrize(
    "odd",
    [
        {"rows": 4, "looked": 0, "lengths": [1]},
        {"rows": 4, "looked": -1, "lengths": [1]},
        {"rows": -4, "looked": 1, "lengths": [1]},
        {"rows": 4, "looked": "4", "lengths": [1]},
        {"rows": True, "looked": 1, "lengths": [1]},
        {"rows": 1, "looked": 1, "lengths": "ten"},
        {"rows": 1, "looked": 1, "lengths": 7},
        {"rows": 1, "looked": 1, "lengths": {"1": 2}},
        {"rows": 1, "looked": 1, "lengths": [-5]},
        {"rows": 1, "looked": 1, "lengths": [float("nan")]},
        {"rows": 1, "looked": 1, "lengths": [float("inf")]},
        {"rows": 1, "looked": 1, "lengths": [10**400]},
        {"rows": 1, "looked": 1, "lengths": [[1]]},
    ],
)
def test_numbers_that_nobody_counted_are_not_estimated_from(
    tmp_path: Path, cache: Path, odd: dict[str, Any]
) -> None:
    answering(cache, {"sets": [odd]})
    assert "could not be read again" in str(wanted(tmp_path).count())
    assert wanted(tmp_path).known() is None
    found = work(tmp_path).data
    assert found is not None
    assert "counted in bytes" in found.how


def test_a_worker_that_dies_is_said(tmp_path: Path, cache: Path) -> None:
    install(cache, "#!/bin/sh\nexit 9\n")
    assert wanted(tmp_path).count() == "it could not be counted: the counting ended with 9"
    assert wanted(tmp_path).known() is None


def test_what_was_kept_and_damaged_is_removed(tmp_path: Path, cache: Path) -> None:
    answering(cache, {"sets": [{"rows": 1, "looked": 1, "lengths": [1]}]})
    one = wanted(tmp_path)
    one.count()
    (kept,) = (cache / "tokens").glob("*.json")
    kept.write_text("{")
    os.utime(kept, (5, 5))
    assert "could not be read again" in str(one.known())
    assert one.known() is None


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"processor_type": "AutoProcessor"}, "images are not counted"),
        ({"base_model": "meta-llama/Llama-3.1-8B"}, "the tokenizer of meta-llama/Llama-3.1-8B is"),
        ({"datasets": [{"path": "tatsu-lab/alpaca", "type": "alpaca"}]}, "no data lie here"),
    ],
)
def test_what_cannot_be_counted_here_says_why(
    tmp_path: Path, cache: Path, changes: dict[str, Any], why: str
) -> None:
    answering(cache, {"sets": []})
    assert why in str(counting.of(recipe(tmp_path, **changes)))


def test_without_axolotl_there_is_a_way_out(tmp_path: Path) -> None:
    assert "ftlaunch env make" in str(counting.of(recipe(tmp_path)))


def test_a_model_in_the_hubs_cache_has_its_tokenizer_here(tmp_path: Path, cache: Path) -> None:
    answering(cache, {"sets": []})
    model = tmp_path / "hub" / "hub" / "models--me--mine"
    (model / "refs").mkdir(parents=True)
    (model / "refs" / "main").write_text("abc")
    (model / "snapshots" / "abc").mkdir(parents=True)
    (model / "snapshots" / "abc" / "tokenizer.json").write_text("{}")
    assert wanted(tmp_path, base_model="me/mine").config["base_model"] == "me/mine"
