"""Commands that look at recipes, environments and an empty store, as a user types them."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from launcher.cli import cli
from launcher.cli.ending import run

RECIPE = "base_model: o/m\nlearning_rate: 0.1\ndatasets: [{path: o/s, type: alpaca}]\n"


@pytest.fixture(autouse=True)
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FTLAUNCH_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("FTLAUNCH_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def ask(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    code = run(cli, argv)
    said = capsys.readouterr()
    return code, said.out, said.err


def test_validate_counts_warnings_and_tells_what_it_passed_over(
    desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (desk / "r.yml").write_text(RECIPE + "debug: true\n")
    code, out, _ = ask(capsys, "validate", "r.yml")
    assert code == 0
    assert out.splitlines()[-2:] == [
        "not checked: hub data set o/s; o/m, o/s on the hub (--online asks)",
        "r.yml: no errors, 1 warning",
    ]


@pytest.mark.parametrize(("text", "code"), [(None, 2), ("a: [\n", 3), ("config: gone\n", 3)])
def test_validate_prints_json_also_when_there_is_no_recipe(
    desk: Path, capsys: pytest.CaptureFixture[str], text: str | None, code: int
) -> None:
    if text is not None:
        (desk / "r.yml").write_text(text)
    ended, out, _ = ask(capsys, "validate", "r.yml", "--json")
    (problem,) = json.loads(out)["problems"]
    assert (ended, problem["severity"]) == (code, "error")
    assert "r.yml" in problem["message"]


def test_validate_looks_at_the_gpu_that_is_named(
    desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (desk / "r.yml").write_text(RECIPE + "bf16: true\n")
    assert ask(capsys, "validate", "r.yml", "-g", "A100:2,L4")[0] == 0
    code, out, _ = ask(capsys, "validate", "r.yml", "-g", "A100,T4", "--json")
    (problem,) = json.loads(out)["problems"]
    assert (code, problem["severity"], problem["where"]) == (3, "error", "r.yml:4")
    (desk / "r.yml").write_text(RECIPE + "save_strategy: 'no'\n")
    assert ask(capsys, "validate", "r.yml")[0] == 0
    assert "--spot" in ask(capsys, "validate", "r.yml", "--spot")[1]


def test_train_refuses_what_validate_finds_and_takes_it_when_told_not_to_look(
    desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (desk / "r.yml").write_text(RECIPE + "learning_rte: 1\n")
    argv = ("train", "r.yml", "-b", "local", "-g", "cpu", "--dry-run")
    code, _, err = ask(capsys, *argv)
    assert code == 3
    assert "r.yml:4: " in err
    code, out, err = ask(capsys, *argv, "--no-preflight")
    assert code == 0
    assert "ignored without a word" in err
    assert "run r-1" in out


def test_recipes_can_be_listed_shown_and_copied_as_json(
    desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = ask(capsys, "recipes", "list", "--json")
    assert listed == ask(capsys, "recipes", "--json")
    assert {"tiny", "quickstart"} <= {each["name"] for each in json.loads(listed[1])}
    shown = json.loads(ask(capsys, "recipes", "show", "tiny", "--json")[1])
    assert all(each["text"] for each in shown)
    copied = json.loads(ask(capsys, "recipes", "copy", "tiny", "here", "--json")[1])
    assert all((desk / each).is_file() for each in copied["files"])


def test_an_environment_that_is_not_made_has_no_path(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = ask(capsys, "env", "path", "--cpu")
    assert (code, out) == (3, "")
    assert "is not made yet" in err
    assert "ftlaunch env make --cpu" in err


def test_environments_are_not_removed_by_accident(
    desk: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    half = desk / "cache" / "envs" / "half"
    half.mkdir(parents=True)
    assert ask(capsys, "env", "show")[1] == ask(capsys, "env")[1]
    code, _, err = ask(capsys, "env", "remove")
    assert (code, "--all" in err) == (2, True)
    code, _, err = ask(capsys, "env", "remove", "--all")
    assert (code, "-y" in err) == (2, True)
    assert half.is_dir()
    code, out, _ = ask(capsys, "env", "remove", "--all", "-y", "--json")
    assert (code, json.loads(out)) == (0, {"removed": ["half"]})
    assert not half.exists()


def test_an_empty_store_and_a_page_past_the_end_are_told(
    desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from launcher.store import open_store

    for argv in (("ps",), ("ps", "-a")):
        assert "there is no run yet" in ask(capsys, *argv)[1]
    open_store(desk / "state").add_run(
        run_id="x", name="mine", recipe="r", backend="local", output_dir=Path("/o"), spec="{}"
    )
    assert "there is no page 9: the last one is 1" in ask(capsys, "ps", "-a", "--page", "9")[1]


def test_a_backend_that_nobody_set_up_is_no_failure_of_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("JL_API_KEY", raising=False)
    code, out, _ = ask(capsys, "check")
    assert code == 0
    assert "jarvis: not set up" in out
    assert "JL_API_KEY" in out
    code, out, _ = ask(capsys, "check", "-b", "jarvis")
    assert (code, "NO  account" in out) == (4, True)
    found = json.loads(ask(capsys, "check", "--json")[1])
    assert [row["unset"] for row in found["jarvis"] if not row["ok"]] == [True]


def test_cleaning_up_passes_over_what_nobody_set_up(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("JL_API_KEY", raising=False)
    code, out, _ = ask(capsys, "check", "--clean", "--json")
    assert code == 0
    assert json.loads(out)["clean"] == {"local": []}
