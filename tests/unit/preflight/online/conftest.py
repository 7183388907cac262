from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from asked import Asked, asked


@pytest.fixture
def user(tmp_path: Path) -> Iterator[Asked]:
    yield from asked(tmp_path)
