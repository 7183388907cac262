"""A cloud of its own for each test, a key, and the provider's unmodified SDK in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from clouds.jarvis import Cloud, lacking
from clouds.jarvis.guest import Guest
from jarvislabs import Client


@pytest.fixture
def cloud(tmp_path: Path, missing: Callable[[str, str], NoReturn]) -> Iterator[Cloud]:
    if lack := lacking():
        missing(lack, "the machines of a loopback cloud are reached by it")
    with Cloud(tmp_path / "cloud") as opened:
        yield opened


@pytest.fixture
def guest(tmp_path: Path) -> Guest:
    """Somebody whose key no provider has yet."""
    return Guest(tmp_path / "guest")


@pytest.fixture
def nobody(cloud: Cloud) -> Iterator[Client]:
    """The SDK, of an account that has no key yet."""
    with cloud.patch(), Client(cloud.key) as client:
        yield client


@pytest.fixture
def client(nobody: Client, guest: Guest) -> Client:
    """The SDK, of an account that has the guest's key."""
    nobody.ssh_keys.add(guest.public, "guest")
    return nobody
