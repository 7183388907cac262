from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import uv
from shelf import Shelf


@pytest.fixture(scope="session")
def python311() -> str:
    """A Python of the version the locks are for."""
    if platform.python_version_tuple()[:2] == ("3", "11"):
        return sys.executable
    found = subprocess.run(
        [uv.find_uv_bin(), "python", "find", "--system", "--no-project", "3.11"],
        capture_output=True,
        text=True,
        check=True,
    )
    return found.stdout.strip()


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    """A shelf that uv is told of as pip is, with no network and a cache of the test's own."""
    shelf = Shelf(tmp_path / "shelf")
    for name in [name for name in os.environ if name.startswith(("PIP_", "UV_", "FTLAUNCH_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf.folder))
    monkeypatch.setenv("SHELF", str(shelf.folder))
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv-cache"))
    monkeypatch.setenv("FTLAUNCH_CACHE_DIR", str(tmp_path / "cache"))
    return shelf
