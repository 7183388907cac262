from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sshd

from backends.ssh.host import Host


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home there"
    folder.mkdir()
    return folder


@pytest.fixture
def machine(
    tmp_path: Path, home: Path, missing: Callable[[str, str], object]
) -> Iterator[sshd.Sshd]:
    """A machine of the test's own."""
    if lacking := sshd.missing_parts():
        missing(lacking, "the tests of ssh need a real one")
    with sshd.Sshd(tmp_path, home=home) as made:
        yield made


@pytest.fixture
def host(machine: sshd.Sshd) -> Host:
    """A connection to it, not yet made."""
    return machine.host()
