"""docs/backends.md says what is so: its examples are the real ones, its table is the tests'."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STRANGER = ROOT / "tests" / "stranger"
PAGE = (ROOT / "docs" / "backends.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"(?<!executed -->\n)```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_the_generated_part_is_up_to_date() -> None:
    check = [sys.executable, str(ROOT / "scripts" / "evidence.py"), "--check"]
    done = subprocess.run(check, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.parametrize("block", blocks("python"))
def test_the_python_shown_is_the_stranger_s(block: str) -> None:
    assert block in (STRANGER / "src" / "stranger" / "__init__.py").read_text()


@pytest.mark.parametrize("block", blocks("toml"))
def test_the_toml_shown_is_the_stranger_s(block: str) -> None:
    assert block in (STRANGER / "pyproject.toml").read_text()


def test_the_test_module_shown_works(tmp_path: Path) -> None:
    (module,) = re.findall(r"<!-- executed -->\n```python\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "test_stranger.py").write_text(module)
    some = "test_is_a_backend or test_offers or test_exit_code or test_lost"
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:xdist",
            "-k",
            some,
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(STRANGER / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "5 passed, 1 skipped" in done.stdout
