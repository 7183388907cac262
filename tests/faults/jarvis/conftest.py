"""One loopback provider for each worker of the fault run, and the table at the end."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from clouds.jarvis import lacking
from clouds.jarvis.cloud import Cloud
from jarvis_faults import report
from jarvis_faults.cases import Case
from jarvis_faults.client import Clients
from jarvis_faults.journeys import Journey, World
from jarvis_faults.outcome import Outcome, Try, of
from jarvis_rig import SPEED, visible

TESTS = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    if what := lacking():
        pytest.fail(f"the loopback provider needs {what}")
    folder = tmp_path_factory.mktemp("cloud")
    with Cloud(folder, speed=SPEED, visible=visible(), balance=Decimal(10**6)) as cloud:
        key = tmp_path_factory.mktemp("key") / "key"
        key.mkdir()
        _make(cloud, key)
        with Clients(_surroundings(cloud)) as clients:
            yield World(cloud, clients, key)


def _surroundings(cloud: Cloud) -> dict[str, str]:
    """The environment of the process that makes clients: the SDK is pointed at the cloud there."""
    places = [str(TESTS / "support"), str(TESTS), str(TESTS.parent)]
    path = os.pathsep.join([cloud.environ["PYTHONPATH"], *places])
    return {**os.environ, **cloud.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}


def _make(cloud: Cloud, folder: Any) -> None:
    from jarvislabs import Client

    private = folder / "id_ed25519"
    argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(private)]
    subprocess.run(argv, check=True, capture_output=True)
    with cloud.patch(), Client(cloud.key) as client:
        client.ssh_keys.add(private.with_suffix(".pub").read_text(), "shared")


@pytest.fixture
def attempt(world: World, tmp_path: Any) -> Iterator[Try]:
    """`attempt(case)`: a run through it, and what is left; everything is mended afterwards."""
    journeys: list[Journey] = []

    def go(
        case: Case | None, *, way: str | None = None, careless: str | None = None
    ) -> tuple[Journey, Outcome]:
        world.cloud.forgive()
        folder = tmp_path / f"case-{len(journeys)}"
        journey = Journey(world, folder, case, careless)
        journeys.append(journey)
        journey.go(way or (case.phase.journey if case else "train"))
        return journey, of(journey)

    yield go
    world.cloud.forgive()
    world.cloud.admin("no_fates")
    for journey in journeys:
        journey.store.close()
        for machine in journey._machines():
            if machine["gone"] is None:
                world.cloud.dashboard_destroy(machine["id"])
        shutil.rmtree(journey.folder, ignore_errors=True)
    _only_the_shared_key(world)


def _only_the_shared_key(world: World) -> None:
    """An account has ten keys at most."""
    from jarvislabs import Client

    keys = world.cloud.account["keys"]
    if len(keys) > 1:
        with world.cloud.patch(), Client(world.cloud.key) as client:
            for key in client.ssh_keys.list():
                if key.key_name != "shared":
                    client.ssh_keys.remove(key.key_id)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The table of what was tried."""
    rows = [
        json.loads(str(value))
        for reports in terminalreporter.stats.values()
        for one in reports
        if getattr(one, "when", "") == "call"
        for key, value in getattr(one, "user_properties", ())
        if key == report.PROPERTY
    ]
    if rows:
        terminalreporter.write_line("")
        for line in report.table(rows):
            terminalreporter.write_line(line)
