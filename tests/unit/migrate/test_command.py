"""`ftlaunch migrate` as it is typed."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
import yaml

from launcher.cli import cli
from launcher.cli.ending import run

OLD = (
    "base_model: o/m # mine\nlearning_rate: 0.1\n"
    "datasets:\n- {path: o/s, type: sharegpt, conversation: chatml}\n"
    "deepspeed: deepspeed/zero1.json\n"
)


def ask(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    code = run(cli, argv)
    said = capsys.readouterr()
    return code, said.out, said.err


def test_it_prints_a_diff_and_writes_nothing(
    desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (desk / "r.yml").write_text(OLD)
    code, out, _ = ask(capsys, "migrate", "r.yml")
    assert code == 0
    assert "--- r.yml\n+++ r.yml (migrated)\n" in out
    assert "\n-- {path: o/s, type: sharegpt" in out
    assert out.splitlines()[-1].startswith("nothing is written yet")
    assert [path.name for path in desk.iterdir()] == ["r.yml"]


def test_write_keeps_the_old_file_and_lays_down_what_is_missing(
    desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = desk / "r.yml"
    file.write_text(OLD)
    file.chmod(0o640)
    code, out, _ = ask(capsys, "migrate", "r.yml", "--write", "--json")
    assert code == 0
    assert len(json.loads(out)["written"]) == 3
    assert (desk / "r.yml.bak").read_text() == OLD
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    read = yaml.safe_load(file.read_text())
    assert json.loads((desk / read["deepspeed"]).read_text())["zero_optimization"]["stage"] == 1
    code, out, _ = ask(capsys, "migrate", "r.yml", "--write")
    assert (code, out) == (0, "r.yml: there is nothing to migrate\n")


def test_a_backup_is_never_overwritten(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (desk / "r.yml").write_text(OLD)
    (desk / "r.yml.bak").write_text("precious")
    code, _, err = ask(capsys, "migrate", "r.yml", "--write")
    assert code == 2
    assert "r.yml.bak is there already" in err
    assert (desk / "r.yml").read_text() == OLD
    assert (desk / "r.yml.bak").read_text() == "precious"


def test_the_config_that_a_launch_recipe_names_is_what_is_migrated(
    desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (desk / "launch.yml").write_text("config: c/r.yml\n")
    (desk / "c").mkdir()
    (desk / "c" / "r.yml").write_text(OLD)
    assert ask(capsys, "migrate", "launch.yml", "--write")[0] == 0
    assert (desk / "c" / "r.yml.bak").read_text() == OLD
    assert (desk / "launch.yml").read_text() == "config: c/r.yml\n"


def test_a_bundled_recipe_needs_nothing(capsys: pytest.CaptureFixture[str], desk: Path) -> None:
    assert ask(capsys, "migrate", "tiny")[1].endswith("there is nothing to migrate\n")


@pytest.mark.parametrize(
    ("text", "code"), [(None, 2), ("a: [\n", 3), ("- a\n", 3), ("", 3), ("config: gone\n", 3)]
)
def test_bad_input_is_one_sentence(
    desk: Path, capsys: pytest.CaptureFixture[str], text: str | None, code: int
) -> None:
    if text is not None:
        (desk / "r.yml").write_text(text)
    ended, _, err = ask(capsys, "migrate", "r.yml")
    assert ended == code
    assert "r.yml" in err
    assert "Traceback" not in err
