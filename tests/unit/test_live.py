"""`scripts/live.py` spends money: what it refuses before it does."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "live.py"


def live(tmp_path: Path, *argv: str, **variables: str) -> subprocess.CompletedProcess[str]:
    keys = {"JL_API_KEY", "MODAL_TOKEN_SECRET"}
    environ = {name: value for name, value in os.environ.items() if name not in keys}
    return subprocess.run(
        [sys.executable, str(SCRIPT), *argv],
        env={**environ, "TMPDIR": str(tmp_path), **variables},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("backend", "variable"), [("jarvis", "JL_API_KEY"), ("modal", "MODAL_TOKEN_SECRET")]
)
def test_without_a_key_nothing_is_begun(tmp_path: Path, backend: str, variable: str) -> None:
    ended = live(tmp_path, backend)
    assert ended.returncode == 4
    assert ended.stderr == f"live: put the account's key into {variable} first\n"
    assert list(tmp_path.iterdir()) == []


def test_without_a_server_nothing_is_begun(tmp_path: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        ended = live(tmp_path, "skypilot", SKYPILOT_API_SERVER_ENDPOINT=url)
    assert ended.returncode == 4, ended.stderr
    (said,) = ended.stderr.splitlines()
    assert said.startswith(f"live: no SkyPilot API server answers at {url}; start it with: sky api")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("argv", [(), ("local",), ("jarvis", "jarvis")])
def test_only_what_bills_is_tried_so(tmp_path: Path, argv: tuple[str, ...]) -> None:
    assert live(tmp_path, *argv).returncode == 2
