"""`ftlaunch estimate`, as it is typed: no account, no network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from launcher.cli import cli
from launcher.cli.ending import run as command

BIG = {
    "base_model": "meta-llama/Llama-3.1-70B",
    "datasets": [{"path": "tatsu-lab/alpaca", "type": "alpaca"}],
    "sequence_len": 8192,
    "micro_batch_size": 4,
    "gradient_checkpointing": False,
}


@pytest.fixture(autouse=True)
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without price lists, keys or runs."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("FTLAUNCH_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def ask(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    code = command(cli, ["estimate", *argv])
    said = capsys.readouterr()
    return code, said.out, said.err


def recipe(folder: Path, config: dict[str, Any]) -> str:
    path = folder / "mine.yml"
    path.write_text(yaml.safe_dump(config))
    return str(path)


def test_every_backend_that_rents_gpus_is_in_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = ask(capsys, "quickstart")
    assert code == 0
    rows = [line for line in out.splitlines() if " GiB " in line]
    assert rows[0].startswith("**")
    for backend in ("modal", "jarvis", "skypilot"):
        assert any(f" {backend} " in row for row in rows), out


def test_as_data_every_offer_has_a_range_of_time_and_money(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, out, _ = ask(capsys, "quickstart", "-b", "modal", "-g", "H100:2", "--json")
    assert code == 0
    told = json.loads(out)
    (row,) = told["quotes"]
    assert (row["gpu"], row["count"], row["fits"]) == ("H100", 2, "yes")
    assert 0 < row["hours"]["low"] <= row["hours"]["likely"] <= row["hours"]["high"]
    assert told["data"]["rows"] == 480


def test_a_recipe_that_fits_nowhere_says_by_how_much(
    apart: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = ask(capsys, recipe(apart, BIG), "-b", "modal", "-g", "T4")
    assert code == 0
    assert "it fits nowhere: on T4 x 1 it lacks" in out
    smaller = {**BIG, "base_model": "meta-llama/Llama-3.1-8B", "adapter": "lora"}
    code, out, _ = ask(capsys, recipe(apart, smaller), "-b", "modal", "-g", "L40S")
    assert "it would fit with:" in out
    assert "--set gradient_checkpointing=true" in out


def test_limits_that_nothing_keeps_name_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = ask(capsys, "quickstart", "-b", "modal", "--max-price", "0.10")
    assert code == 0
    assert "nothing that fits keeps to the limits; nearest is T4 x 1 at modal" in out


def test_a_gpu_that_nobody_knows_is_refused_with_the_nearest_names(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for command_line in (["estimate", "quickstart"], ["train", "quickstart", "-b", "auto", "-y"]):
        code = command(cli, [*command_line, "-g", "H1000"])
        said = capsys.readouterr().err
        assert code == 2, said
        assert "H1000" in said
        assert "H100" in said.replace("H1000", "")
    assert ask(capsys, "quickstart", "-g", "A30")[0] == 0, "it is rented, though no table has it"


def test_a_limit_of_time_keeps_what_is_quick(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["quickstart", "-b", "jarvis", "-g", "L4", "--regions", "IN2"]
    assert "nothing that fits keeps to the limits" in ask(capsys, *argv, "--max-duration", "9s")[1]
    assert "** " in ask(capsys, *argv, "--max-duration", "9h")[1]


def test_data_of_nobody_knows_what_size_are_asked_for(
    apart: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = recipe(apart, {**BIG, "base_model": "meta-llama/Llama-3.1-8B", "adapter": "lora"})
    code, out, _ = ask(capsys, path, "-b", "modal")
    assert code == 0
    assert "say it with --tokens" in out
    code, out, _ = ask(capsys, path, "-b", "modal", "--tokens", "1000000", "--explain")
    assert "1,000,000 tokens" in out
    assert "memory at its most" in out


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"base_model": "me/secret-9000"}, 2, "the shape of me/secret-9000 is not known"),
        ({"micro_batch_size": -1}, 3, "micro_batch"),
        ({"rl": "grpo"}, 3, "cannot be estimated"),
    ],
)
def test_what_cannot_be_estimated_is_one_sentence(
    apart: Path,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, Any],
    code: int,
    words: str,
) -> None:
    found, _, err = ask(capsys, recipe(apart, {**BIG, **changes}))
    assert found == code, err
    assert words in err
    assert "Traceback" not in err
