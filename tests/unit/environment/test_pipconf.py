"""pip's configuration as we read it, held against pip's own answer."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from launcher.environment import pipconf


def told_by_pip(environ: dict[str, str], key: str) -> str:
    argv = [sys.executable, "-m", "pip", "config", "get", key]
    answer = subprocess.run(argv, env=environ, capture_output=True, text=True, check=False)
    return answer.stdout.strip()


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """A user without any variable of pip's."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    return {**kept, "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / ".config")}


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_the_user_s_file_is_read_as_pip_reads_it(tmp_path: Path, environ: dict[str, str]) -> None:
    write(
        tmp_path / ".config/pip/pip.conf",
        "[global]\nfind-links =\n    /a/folder\n    https://example.invalid/wheels\n"
        "index-url = https://example.invalid/simple%20here\n",
    )
    assert pipconf.find_links(environ) == ["/a/folder", "https://example.invalid/wheels"]
    assert " ".join(told_by_pip(environ, "global.find-links").split()) == " ".join(
        pipconf.find_links(environ)
    )
    assert pipconf.index_url(environ) == "https://example.invalid/simple%20here"
    assert pipconf.index_url(environ) == told_by_pip(environ, "global.index-url")


def test_a_nearer_file_wins(tmp_path: Path, environ: dict[str, str]) -> None:
    write(tmp_path / ".pip/pip.conf", "[global]\nfind-links = /old\n")
    write(tmp_path / ".config/pip/pip.conf", "[install]\nfind-links = /user\n")
    assert pipconf.find_links(environ) == ["/user"]
    environ["PIP_CONFIG_FILE"] = str(write(tmp_path / "own.conf", "[global]\nfind-links=/own\n"))
    assert pipconf.find_links(environ) == ["/own"]
    environ["PIP_FIND_LINKS"] = "/variable /second"
    assert pipconf.find_links(environ) == ["/variable", "/second"]


def test_no_files_when_pip_is_told_to_read_none(tmp_path: Path, environ: dict[str, str]) -> None:
    write(tmp_path / ".config/pip/pip.conf", "[global]\nfind-links = /user\n")
    environ["PIP_CONFIG_FILE"] = os.devnull
    assert pipconf.find_links(environ) == []


def test_a_file_that_does_not_parse_is_pip_s_affair(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    before = pipconf.find_links(environ)
    write(tmp_path / ".config/pip/pip.conf", "no section\n")
    assert pipconf.find_links(environ) == before
