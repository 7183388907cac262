"""pyproject.toml, the stage runner and the set-up script keep their word."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def pyproject() -> dict[str, Any]:
    with (ROOT / "pyproject.toml").open("rb") as file:
        return tomllib.load(file)


def test_all_is_all_extras_of_the_providers(pyproject: dict[str, Any]) -> None:
    extras = pyproject["project"]["optional-dependencies"]
    providers = sorted(extras.keys() - {"all", "dev", "buckets"})
    assert providers == ["jarvis", "modal", "skypilot"]
    (all_of_them,) = extras["all"]
    assert sorted(all_of_them.removeprefix("ftlaunch[").rstrip("]").split(",")) == providers


def test_axolotl_is_no_dependency_and_conflicts_with_what_it_cannot_live_with(
    pyproject: dict[str, Any],
) -> None:
    assert not [line for line in pyproject["project"]["dependencies"] if "axolotl" in line]
    pairs = pyproject["tool"]["uv"]["conflicts"]
    assert {pair[1]["extra"] for pair in pairs} == {"modal", "skypilot", "all"}
    assert {pair[0]["group"] for pair in pairs} == {"axolotl"}


def stages(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, str(ROOT / "scripts" / "test.py"), *arguments]
    return subprocess.run(argv, cwd=cwd, capture_output=True, text=True, check=False)


def test_the_stages_fit_well_into_an_hour() -> None:
    listed = stages("--list")
    assert listed.returncode == 0
    clocks = [line.split()[-1].split(":") for line in listed.stdout.splitlines()]
    assert sum(int(minutes) * 60 + int(seconds) for minutes, seconds in clocks) <= 55 * 60


def test_make_check_fits_into_two_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = ("style", "types", "imports", "locks", "unit")
    makefile = (ROOT / "Makefile").read_text()
    assert "FTLAUNCH_TEST_PYTHONS=this $(BIN)/python scripts/test.py " + " ".join(quick) in makefile
    monkeypatch.setenv("FTLAUNCH_TEST_PYTHONS", "this")
    listed = [line.split() for line in stages("--list").stdout.splitlines()]
    clocks = [clock.split(":") for name, clock in listed if name in quick]
    assert len(clocks) == len(quick)
    assert sum(int(minutes) * 60 + int(seconds) for minutes, seconds in clocks) <= 120


def test_a_stage_that_does_not_exist_is_refused() -> None:
    answer = stages("unti")
    assert answer.returncode == 2
    assert "unit" in answer.stderr


def test_the_locks_stage_runs_and_is_counted() -> None:
    answer = stages("locks")
    assert answer.returncode == 0
    assert "=== locks (budget" in answer.stdout
    assert "passed" in answer.stdout.splitlines()[-1]


def test_a_failing_stage_fails_the_whole(tmp_path: Path) -> None:
    copy = tmp_path / "scripts"
    copy.mkdir()
    (copy / "test.py").write_text((ROOT / "scripts/test.py").read_text())
    answer = subprocess.run(  # here there is no lock_axolotl.py, so that this stage fails
        [sys.executable, str(copy / "test.py"), "locks"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 1
    assert "make test STAGES=locks" in answer.stdout


def test_every_make_target_that_is_listed_can_be_planned() -> None:
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    targets = [line.split()[1] for line in listed.stdout.splitlines() if "make " in line]
    assert {"demo", "test", "check"} <= set(targets)
    for target in targets:
        subprocess.run(["make", "-n", target], cwd=ROOT, check=True, capture_output=True)


def test_set_up_without_rights_says_what_is_missing(tmp_path: Path) -> None:
    """As a user who is not root, on a machine without a fit Python."""
    fakes = tmp_path / "bin"
    fakes.mkdir()
    for name, script in {
        "id": "echo 1000",
        **dict.fromkeys(["python3.11", "python3.12", "python3.13", "python3"], "exit 1"),
    }.items():
        (fakes / name).write_text(f"#!/bin/sh\n{script}\n")
        (fakes / name).chmod(0o755)
    checkout = tmp_path / "it's a checkout"
    (checkout / "scripts").mkdir(parents=True)
    (checkout / "scripts/setup.sh").write_text((ROOT / "scripts/setup.sh").read_text())
    (checkout / "pyproject.toml").write_text("")
    answer = subprocess.run(
        ["sh", "scripts/setup.sh"],
        cwd=checkout,
        env={**os.environ, "PATH": f"{fakes}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode != 0
    assert "apt-get install python3.11 python3.11-venv" in answer.stderr
    assert not (checkout / ".venv").exists()
