"""A cloud of its own for each test, and functions that are mounted as a module of their own."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import modal
import pytest
from clouds.modal.checks.watching import Spawn
from clouds.modal.cloud import Cloud

SOURCE = Path(__file__).with_name("careless.py")


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    with Cloud(tmp_path / "cloud", commit_every=3600) as made:
        for name, value in made.environ.items():
            monkeypatch.setenv(name, value)
        yield made


@pytest.fixture
def client(cloud: Cloud) -> Any:
    return modal.Client.from_credentials(cloud.token_id, cloud.token_secret)


@pytest.fixture
def volume(client: Any) -> Any:
    found = modal.Volume.from_name(
        "ftlaunch-runs", create_if_missing=True, version=2, client=client
    )
    found.hydrate(client)
    return found


@pytest.fixture
def spawn(client: Any, volume: Any) -> Spawn:
    def spawned(name: str, *args: Any, retries: int = 0, limit: int = 300, **kwargs: Any) -> Any:
        spec = importlib.util.spec_from_file_location("careless", SOURCE)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["careless"] = module
        spec.loader.exec_module(module)
        app = modal.App(f"check-{name}")
        entry = getattr(module, name)
        if size := kwargs.pop("size", 0):
            entry = modal.clustered(size=size)(entry)
        function = app.function(
            name=name,
            image=modal.Image.debian_slim(python_version="3.11"),
            gpu=kwargs.pop("gpu", None),
            volumes={"/mnt/ftlaunch/runs": volume},
            retries=modal.Retries(max_retries=retries, initial_delay=0.0),
            timeout=limit,
            single_use_containers=True,
        )(entry)
        with app.run(detach=True, client=client):
            return function.spawn(*args, **kwargs)

    return spawned
