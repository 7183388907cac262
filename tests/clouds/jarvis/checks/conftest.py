"""A cloud of its own for each test, a key, and the provider's unmodified SDK in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from clouds.jarvis import Cloud, Template, Timings, lacking
from clouds.jarvis.guest import Guest
from jarvislabs import Client


@pytest.fixture
def cloud(
    request: pytest.FixtureRequest, tmp_path: Path, missing: Callable[[str, str], NoReturn]
) -> Iterator[Cloud]:
    """With the timings that a test's parameter says, where it is about them."""
    timings = getattr(request, "param", Timings())
    if lack := lacking():
        missing(lack, "the machines of a loopback cloud are reached by it")
    loud = {"tensorflow": Template(says="Welcome to your image"), "fastai": Template(python=False)}
    with Cloud(tmp_path / "cloud", speed=100, timings=timings, templates=loud) as opened:
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
