"""Where the connection to a cluster is kept."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from backends.skypilot.reach import Reach
from backends.skypilot.records import Records
from backends.skypilot.server import Server
from backends.ssh.lingering import LONGEST_FOLDER


def test_a_long_temporary_folder_is_too_long_for_a_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As macOS gives everybody: /var/folders/zz/…/T."""
    long = tmp_path / ("long" * 20)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    folders = [
        Reach(Server({}), Records(tmp_path / name), {})._sockets() for name in ("one", "one", "two")
    ]
    assert folders[0] == folders[1] != folders[2]
    for folder in folders:
        assert len(os.fsencode(folder)) <= LONGEST_FOLDER
        assert folder.stat().st_mode & 0o777 == 0o700
    for folder in set(folders):
        folder.rmdir()
