"""A mistake gets one clear sentence, the way out, its exit code, no traceback, nothing left."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

CONFIG: dict[str, Any] = {
    "base_model": "./model",
    "adapter": "lora",
    "lora_r": 8,
    "lora_alpha": 16,
    "lora_target_linear": True,
    "datasets": [{"path": "rows.jsonl", "type": "alpaca"}],
    "sequence_len": 128,
    "micro_batch_size": 1,
    "num_epochs": 1,
    "learning_rate": 0.001,
}

ROW = {"instruction": "add 1 and 1", "input": "", "output": "2"}

REFUSED, USAGE = 3, 2


def lay(here: Path, *, rows: str | None = None, **keys: Any) -> None:
    """A recipe that is right but for what the test changes; a key of None is left out."""
    (here / "model").mkdir(parents=True, exist_ok=True)
    (here / "model" / "config.json").write_text("{}")
    (here / "rows.jsonl").write_text((json.dumps(ROW) + "\n") * 3 if rows is None else rows)
    config = {key: value for key, value in {**CONFIG, **keys}.items() if value is not None}
    (here / "recipe.yml").write_text(yaml.safe_dump(config, sort_keys=False))


def assert_clean(ended: Any, code: int, *words: str) -> None:
    assert ended.code == code, ended.said
    assert "Traceback" not in ended.said
    sentence = ended.err.splitlines()[0]
    for word in words:
        assert word in ended.err, ended.err
    assert sentence.strip()


def assert_nothing_left(desk: Any) -> None:
    assert desk.store().runs() == []
    assert not (desk.here / "runs").exists()
    left = [path for path in (desk.state / "backends").rglob("*") if path.is_file()]
    assert left == []


def test_the_recipe_these_tests_break_is_right(desk: Any) -> None:
    lay(desk.here)
    ended = desk.run("train", "recipe.yml", "--dry-run")
    assert ended.code == 0, ended.said


def test_a_missing_file(desk: Any) -> None:
    ended = desk.run("train", "no-such.yml")
    assert_clean(ended, USAGE, "no-such.yml")
    assert_nothing_left(desk)


def test_a_misspelled_recipe_name(desk: Any) -> None:
    assert_clean(desk.run("train", "quikstart"), USAGE, "quickstart")


def test_an_empty_file(desk: Any) -> None:
    (desk.here / "recipe.yml").write_text("")
    assert_clean(desk.run("train", "recipe.yml"), REFUSED, "recipe.yml", "empty")
    assert_nothing_left(desk)


def test_yaml_that_does_not_parse(desk: Any) -> None:
    (desk.here / "recipe.yml").write_text("base_model: x\ndatasets: [a, b\nlora_r: 8\n")
    ended = desk.run("train", "recipe.yml")
    assert_clean(ended, REFUSED, "recipe.yml:2")
    assert_nothing_left(desk)


def test_a_list_where_a_mapping_belongs(desk: Any) -> None:
    (desk.here / "recipe.yml").write_text("- base_model: x\n")
    assert_clean(desk.run("train", "recipe.yml"), REFUSED, "recipe.yml", "list")
    assert_nothing_left(desk)


def test_a_misspelled_key(desk: Any) -> None:
    lay(desk.here, micro_batch_size=None, micro_batchsize=1)
    assert_clean(
        desk.run("train", "recipe.yml"), REFUSED, "recipe.yml:", "micro_batchsize", "did you mean"
    )
    assert_nothing_left(desk)


def test_a_misspelled_key_of_a_launch_recipe(desk: Any) -> None:
    lay(desk.here)
    (desk.here / "launch.yml").write_text("config: recipe.yml\nhardwear: {gpu: H100}\n")
    assert_clean(desk.run("train", "launch.yml"), REFUSED, "launch.yml:2", "hardwear", "hardware")


def test_a_dataset_that_is_not_there(desk: Any) -> None:
    lay(desk.here, datasets=[{"path": "./gone.jsonl", "type": "alpaca"}])
    assert_clean(desk.run("train", "recipe.yml"), REFUSED, "recipe.yml:", "gone.jsonl")
    assert_nothing_left(desk)


def test_a_broken_row(desk: Any) -> None:
    lay(desk.here, rows=json.dumps(ROW) + "\n" + '{"instruction": "x", \n')
    assert_clean(desk.run("train", "recipe.yml"), REFUSED, "rows.jsonl", "row 2")
    assert_nothing_left(desk)


def test_a_row_without_the_fields_its_type_needs(desk: Any) -> None:
    rows = "".join(json.dumps(row) + "\n" for row in (ROW, ROW, {"question": "x", "answer": "y"}))
    lay(desk.here, rows=rows)
    assert_clean(desk.run("train", "recipe.yml"), REFUSED, "rows.jsonl", "row 3", "instruction")
    assert_nothing_left(desk)


def test_a_chat_template_that_is_missing(desk: Any) -> None:
    lay(desk.here, chat_template_jinja="./gone.jinja")
    assert_clean(desk.run("train", "recipe.yml"), REFUSED, "recipe.yml:", "gone.jinja")
    assert_nothing_left(desk)


def test_results_that_cannot_be_written(desk: Any) -> None:
    lay(desk.here)
    (desk.here / "in-the-way").write_text("a file")
    ended = desk.run("train", "recipe.yml", "-o", "in-the-way/out")
    assert_clean(ended, REFUSED, "in-the-way", "--output")
    assert desk.store().runs() == []


def test_a_name_that_cannot_be(desk: Any) -> None:
    lay(desk.here)
    for name in ("two words", "-x", "a/b", "", "x" * 41, "new\nline", "é"):
        ended = desk.run("train", "recipe.yml", f"--name={name}", "--dry-run")
        assert_clean(ended, USAGE, "name")


def test_a_name_already_taken(desk: Any) -> None:
    lay(desk.here)
    desk.store().add_run(
        run_id="x", name="mine", recipe="r", backend="local", output_dir=Path("/o"), spec="{}"
    )
    ended = desk.run("train", "recipe.yml", "-n", "mine", "--dry-run")
    assert_clean(ended, USAGE, "mine", "ftlaunch rm mine")


@pytest.mark.parametrize(
    "command", ["logs", "inspect", "wait", "stop", "pull", "rm", "merge", "resume", "evaluate"]
)
def test_an_unknown_run(desk: Any, command: str) -> None:
    assert_clean(desk.run(command, "nobody"), USAGE, "nobody", "ftlaunch ps")


def test_no_run_yet(desk: Any) -> None:
    assert_clean(desk.run("logs"), USAGE, "no run yet")


def test_an_unknown_command_and_option(desk: Any) -> None:
    assert_clean(desk.run("trian", "x"), USAGE, "train")
    assert_clean(desk.run("train", "quickstart", "--bakend", "x"), USAGE, "--backend")


def test_an_unknown_backend(desk: Any) -> None:
    lay(desk.here)
    assert_clean(desk.run("train", "recipe.yml", "-b", "locla"), USAGE, "locla", "local")


def test_hardware_that_is_not_here(desk: Any) -> None:
    lay(desk.here)
    assert_clean(desk.run("train", "recipe.yml", "-g", "B300:64", "--dry-run"), 5, "B300")


def test_a_secret_that_is_not_set(desk: Any) -> None:
    lay(desk.here)
    ended = desk.run("train", "recipe.yml", "-s", "NOT_SET_ANYWHERE")
    assert_clean(ended, 4, "NOT_SET_ANYWHERE")
    assert_nothing_left(desk)


def test_a_secret_where_it_would_be_written_down(desk: Any) -> None:
    lay(desk.here)
    given = desk.run("train", "recipe.yml", "-s", "HF_TOKEN=canary-1", "--dry-run")
    assert_clean(given, USAGE, "-s HF_TOKEN")
    as_variable = desk.run("train", "recipe.yml", "-e", "HF_TOKEN=canary-1", "--dry-run")
    assert_clean(as_variable, USAGE, "-s HF_TOKEN")
    assert "canary-1" not in given.said + as_variable.said


def test_a_stray_word_and_a_backend_that_nobody_has(desk: Any) -> None:
    lay(desk.here)
    assert_clean(desk.run("train", "recipe.yml", "stray", "--dry-run"), USAGE, "stray")
    assert_clean(desk.run("train", "recipe.yml", "-b", "skypolit"), USAGE, "'skypilot'")


def test_a_model_that_this_machine_cannot_hold(desk: Any) -> None:
    lay(desk.here, base_model="someone/Huge-9000B")
    ended = desk.run("train", "recipe.yml", "-g", "cpu", "--dry-run")
    assert_clean(ended, REFUSED, "Huge-9000B", "GPU")


def test_a_limit_that_is_no_time(desk: Any) -> None:
    lay(desk.here)
    for text in ("soon", "-1h", "0"):
        ended = desk.run("train", "recipe.yml", f"--max-duration={text}", "--dry-run")
        assert_clean(ended, USAGE, "max-duration")


@pytest.mark.parametrize(
    "folder", ["with space", 'quo\'te "d"', "línea", "-dash", "new\nline", "$(touch x)", "a;b"]
)
def test_odd_names_are_fine(desk: Any, folder: str) -> None:
    there = desk.here / folder
    lay(there)
    ended = desk.run("train", str(there / "recipe.yml"), "--dry-run", "--json")
    assert ended.code == 0, ended.said
    assert {file["path"] for file in ended.json()["files"]} >= {"bundle/rows.jsonl"}
    assert not (desk.here / "x").exists()


@pytest.fixture
def small_disk(tmp_path: Path, missing: Any) -> Iterator[Path]:
    """A disk of 8 MiB."""
    folder = tmp_path / "small disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        missing("a small disk", "mounting one needs root")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.axolotl
def test_a_disk_without_room_for_the_model(desk: Any, small_disk: Path) -> None:
    where_it_runs = desk.run("train", "tiny", FTLAUNCH_STATE_DIR=str(small_disk / "state"))
    assert_clean(where_it_runs, REFUSED, str(small_disk), "FTLAUNCH_STATE_DIR")
    where_results_go = desk.run("train", "tiny", "-o", str(small_disk / "out"))
    assert_clean(where_results_go, REFUSED, str(small_disk), "--output")
    assert desk.store().runs() == []
    assert not (small_disk / "out").exists()
