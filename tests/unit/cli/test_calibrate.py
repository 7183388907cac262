"""`ftlaunch calibrate` asks for a few steps, and for nothing that would outlast them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from launcher.cli import cli
from launcher.cli.ending import run as command


@pytest.fixture(autouse=True)
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("FTLAUNCH_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)


def planned(capsys: pytest.CaptureFixture[str], *argv: str) -> dict[str, Any]:
    code = command(cli, ["calibrate", "tiny", "-b", "local", "--dry-run", "--json", *argv])
    said = capsys.readouterr()
    assert code == 0, said.err
    found: dict[str, Any] = json.loads(said.out)
    return found


def test_it_is_the_recipe_for_a_few_steps(capsys: pytest.CaptureFixture[str]) -> None:
    config = planned(capsys)["config"]
    assert config["max_steps"] == 12
    assert config["save_strategy"] == "no"
    assert not config.get("test_datasets")
    assert (config["adapter"], config["sequence_len"]) == ("lora", 128)
    assert planned(capsys, "--steps", "20")["config"]["max_steps"] == 20


def test_it_does_not_merge(capsys: pytest.CaptureFixture[str]) -> None:
    assert [job["kind"] for job in planned(capsys)["jobs"]] == ["train"]


def test_a_change_of_the_user_s_own_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert planned(capsys, "--set", "micro_batch_size=1")["config"]["micro_batch_size"] == 1


def test_fewer_steps_than_can_be_measured_are_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert command(cli, ["calibrate", "tiny", "--steps", "3"]) == 2
    assert "7" in capsys.readouterr().err
