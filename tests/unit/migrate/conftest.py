from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from launcher.migrate import Migration, migrate


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    odd = tmp_path / "-d 'q ü"
    odd.mkdir()
    monkeypatch.chdir(odd)
    return odd


@pytest.fixture
def migrated(desk: Path) -> Callable[[str], Migration]:
    """What a recipe with this text needs."""

    def write_and_migrate(text: str) -> Migration:
        (desk / "r.yml").write_bytes(text.encode())
        return migrate("r.yml", cwd=desk)

    return write_and_migrate
