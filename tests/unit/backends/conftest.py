from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from local_place import Place

from backends.lease import Keep


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """The local backend in folders of the test's own; nothing of its jobs outlives the test."""
    made = Place(tmp_path / "files", tmp_path / "the state's folder")
    yield made
    for lease in made.leases:
        made.backend.release(lease, keep=Keep.NOTHING)
