"""`ftlaunch estimate`, as it is typed: no account, no network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from backends.modal import clusters
from launcher.cli import cli
from launcher.cli.ending import run as command
from launcher.quotes import words

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


def test_several_nodes_are_counted_and_told(
    capsys: pytest.CaptureFixture[str], apart: Path
) -> None:
    config = {"config": "quickstart", "hardware": {"nodes": 2}}
    code, out, err = ask(capsys, recipe(apart, config), "-b", "modal", "--all")
    assert code == 0
    kinds = [line for line in out.splitlines() if " GiB " in line]
    assert len(kinds) == len(clusters.KINDS)
    (row,) = (line for line in kinds if "2 nodes x H100:8" in line)
    assert "$64.98" in row
    code, _, err = ask(capsys, recipe(apart, config), "-b", "jarvis")
    assert code == 5
    assert "jarvis has no GPU on 2 machines" in err


def test_what_the_recipe_itself_asks_for_narrows_the_list(
    capsys: pytest.CaptureFixture[str], apart: Path
) -> None:
    config = {"config": "quickstart", "hardware": {"spot": True}, "budget": {"max_price": 0.5}}
    asked = recipe(apart, config)
    code, out, _ = ask(capsys, asked, "--json")
    assert code == 0
    rows = json.loads(out)["quotes"]
    assert rows
    assert all(
        row["spot"] and float(row["usd_per_hour"] or row["price_per_hour"]) <= 0.5 for row in rows
    )
    _, out, _ = ask(capsys, asked)
    assert "the recipe asks for spot capacity; max_price: 0.5" in out
    code, out, _ = ask(capsys, asked, "--max-price", "2")
    assert code == 0
    assert "the recipe asks for spot capacity\n" in out
    code, _, err = ask(capsys, asked, "--max-price", "0.001")
    assert code != 0
    assert "nothing that fits keeps to the limits" in err


@pytest.mark.parametrize(
    ("count", "told"),
    [(8_030_261_248, "8.03B"), (134_515_008, "135M"), (2_123_456, "2.12M"), (212_000, "0.21M")],
)
def test_the_size_of_a_model_is_never_nothing(count: int, told: str) -> None:
    assert words.parameters(count) == told


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
    code, _, err = ask(capsys, recipe(apart, BIG), "-b", "modal", "-g", "T4")
    assert code == 3
    assert "it fits nowhere: on T4 x 1 it lacks" in err
    assert "take a smaller model or shorter rows" in err


def test_and_the_smallest_change_that_would_do(
    apart: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    smaller = {**BIG, "base_model": "meta-llama/Llama-3.1-8B"}
    path = recipe(apart, {**smaller, "adapter": "lora"})
    code, _, err = ask(capsys, path, "-b", "modal", "-g", "L40S")
    assert code == 3
    told = err[err.index("it would fit with:") :].splitlines()
    (pasted,) = (line.split() for line in told if "gradient_checkpointing=true" in line)
    assert ask(capsys, path, "-b", "modal", "-g", "L40S", *pasted)[0] == 0
    # Where none is enough by itself, no more than needed: without any one of them it does not fit.
    code, _, err = ask(capsys, recipe(apart, smaller), "-b", "modal", "-g", "L4")
    assert code == 3
    (pasted,) = (line.split() for line in err.splitlines() if "--set" in line)
    assert ask(capsys, path, "-b", "modal", "-g", "L4", *pasted)[0] == 0
    assert "fsdp" not in err


@pytest.mark.parametrize(
    "limit", [("--max-price", "0.10"), ("--max-cost", "0.001"), ("--max-duration", "5s")]
)
def test_limits_that_nothing_keeps_name_the_nearest(
    capsys: pytest.CaptureFixture[str], limit: tuple[str, str]
) -> None:
    code, _, err = ask(capsys, "quickstart", "-b", "modal", *limit)
    assert code == 7
    assert "nothing that fits keeps to the limits; nearest is T4 x 1 at modal" in err


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (("-g", "H1000"), 2, "there is no GPU named 'H1000'\n  nearest names: H100, "),
        (("-g", "A100-80GB,A10O"), 2, "there is no GPU named 'A10O'\n  nearest names: A10, "),
        (("-g", "cpu"), 2, "an estimate is of GPUs"),
        (("-g", "RTX4090"), 5, "no backend has a RTX4090"),
        (("-b", "modal", "-g", "T4:9"), 5, "modal has no T4 x 9"),
        (("-b", "modla"), 2, "there is no backend named 'modla'\n  did you mean 'modal'?"),
        (("--region", "IN22"), 2, "no backend has a region 'IN22'\n  nearest names: IN2"),
        (("-b", "modal", "--region", "IN2"), 2, "modal has no region 'IN2'"),
        (("--max-price", "0"), 2, "the amount must be above zero"),
        (("--max-cost", "-3"), 2, "the amount must be above zero"),
        (("--max-duration", "0"), 2, "the time must be longer than zero"),
        (("--params", "8B"), 2, "--hidden is not given"),
        (("--params", "many"), 2, "is not a number of parameters such as 8B"),
    ],
)
def test_what_was_typed_wrong_is_said_with_a_way_out(
    capsys: pytest.CaptureFixture[str], argv: tuple[str, ...], code: int, said: str
) -> None:
    found, _, err = ask(capsys, "quickstart", *argv)
    assert (found, said in err) == (code, True), err


def test_a_model_nobody_knows_is_told_in_numbers(
    apart: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = recipe(apart, {**BIG, "base_model": "me/secret", "adapter": "lora"})
    argv = ("-b", "modal", "-g", "H100", "--tokens", "1000", "--json")
    code, _, err = ask(capsys, path, *argv)
    assert code == 2
    assert "--params, --hidden and --layers" in err
    typed = ("--params", "1.5B", "--hidden", "2048", "--layers", "24")
    code, out, _ = ask(capsys, path, *argv, *typed)
    assert json.loads(out)["model"]["params"] == 1_500_000_000


def test_a_gpu_that_nobody_knows_is_refused_with_the_nearest_names(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for command_line in (["estimate", "quickstart"], ["train", "quickstart", "-b", "auto", "-y"]):
        code = command(cli, [*command_line, "-g", "H1000"])
        said = capsys.readouterr().err
        assert code == 2, said
        assert "H1000" in said
        assert "H100" in said.replace("H1000", "")
    code, _, err = ask(capsys, "quickstart", "-g", "A30")
    assert code == 5, "it is rented, though no figures of it are known"
    assert "no GPU named" not in err


def test_a_limit_of_time_keeps_what_is_quick(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["quickstart", "-b", "jarvis", "-g", "L4", "--regions", "IN2"]
    code, _, err = ask(capsys, *argv, "--max-duration", "9s")
    assert code != 0
    assert "keeps to the limits" in err
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


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("--max-duration", "5s"), "it will hardly be done when its limit of 0:00:05 ends it"),
        (("--max-cost", "0.001"), "it will hardly be done when its limit of"),
        (("--set", "base_model=me/secret"), "not estimated: the shape of me/secret is not known"),
        (("--no-merge", "--max-duration", "1d"), " in all; "),
    ],
)
def test_a_plan_says_what_its_limits_do_not_allow(
    capsys: pytest.CaptureFixture[str], argv: tuple[str, ...], said: str
) -> None:
    code = command(cli, ["train", "quickstart", "--dry-run", "-b", "modal", "-g", "T4", *argv])
    told = capsys.readouterr()
    assert code == 0, told.err
    assert said in told.out + told.err
    assert ("hardly" in told.err) == ("hardly" in said)
