"""The wheel, built and installed into an empty environment, at both ends of the range of click."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest
import uv

import launcher

pytestmark = pytest.mark.network

ROOT = Path(__file__).resolve().parents[2]
CLICKS = ("click==8.1.8", "click<9")
"""The newest that SkyPilot allows, and the newest there is."""


@dataclass(frozen=True)
class Program:
    """`ftlaunch` as installed, for a user who has nothing."""

    prefix: Path
    home: Path

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        kept = {key: os.environ[key] for key in ("PATH", "LANG", "TZ") if key in os.environ}
        env = {**kept, "HOME": str(self.home), "COLUMNS": "100"}
        argv = [str(self.prefix / "bin" / "ftlaunch"), *arguments]
        return subprocess.run(
            argv, cwd=self.home, env=env, capture_output=True, text=True, check=False, timeout=120
        )

    def said(self, *arguments: str) -> str:
        answer = self(*arguments)
        assert answer.returncode == 0, answer.stdout + answer.stderr
        assert "Traceback" not in answer.stderr
        return answer.stdout


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    argv = [sys.executable, "-m", "build", "--outdir", str(folder), str(ROOT)]
    built = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="session", params=CLICKS)
def program(
    request: pytest.FixtureRequest, wheel: Path, tmp_path_factory: pytest.TempPathFactory
) -> Program:
    prefix = tmp_path_factory.mktemp("installed") / "venv"
    tool = uv.find_uv_bin()
    subprocess.run([tool, "venv", "--quiet", "--python", sys.executable, str(prefix)], check=True)
    python = str(prefix / "bin" / "python")
    subprocess.run(
        [tool, "pip", "install", "--quiet", "--python", python, str(wheel), request.param],
        check=True,
    )
    return Program(prefix, tmp_path_factory.mktemp("home"))


def test_the_wheel_holds_recipes_configs_and_locks_and_nothing_stray(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"launcher", "backends"}
    for wanted in (
        "launcher/bundled/configs/env/axolotl-cpu.txt",
        "launcher/bundled/configs/env/axolotl-cu130.txt",
        "launcher/bundled/configs/tiny.yml",
        "launcher/bundled/configs/quickstart.yml",
        "launcher/workers/unpack_gguf.py",
        "launcher/environment/probe_worker.py",
        "launcher/py.typed",
        "backends/py.typed",
        "backends/runner.py",
    ):
        assert wanted in names
    stray = ("last_run_prepared", "model-out", "__pycache__", "/.", ".egg-info")
    assert not [name for name in names if any(part in name for part in stray)]


def test_it_says_its_version(program: Program) -> None:
    assert launcher.__version__ in program.said("--version")


def test_it_says_what_it_can_do(program: Program) -> None:
    told = program.said("--help")
    for command in ("train", "merge", "inference", "ps", "logs", "stop", "pull", "env", "recipes"):
        assert command in told


def test_its_recipes_came_with_it(program: Program) -> None:
    told = program.said("recipes")
    assert "tiny" in told
    assert "quickstart" in told


def test_a_dry_run_needs_nothing_and_leaves_nothing(program: Program) -> None:
    told = program.said("train", "tiny", "--dry-run")
    assert "axolotl.cli.train" in told
    assert [path.name for path in program.home.iterdir() if not path.name.startswith(".")] == []


def test_a_dry_run_as_json_is_json(program: Program) -> None:
    assert json.loads(program.said("train", "tiny", "--dry-run", "--json"))


def test_the_packages_are_typed_and_carry_their_licence(program: Program, wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert any(name.endswith("licenses/LICENSE") for name in names)
    (metadata,) = [name for name in names if name.endswith(".dist-info/METADATA")]
    text = zipfile.ZipFile(wheel).read(metadata).decode()
    assert "License-Expression: Apache-2.0" in text
    assert "Requires-Python: >=3.11" in text
    assert "axolotl==" not in text.partition("\n\n")[0]


def test_the_backend_of_this_machine_is_registered(program: Program) -> None:
    python = str(program.prefix / "bin" / "python")
    code = "from backends import registry; print(registry.names())"
    answer = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    assert "local" in answer.stdout
