"""One SkyPilot for each worker of the fault run, with a cluster of the user's, and the table."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from clouds.skypilot.rig import Sky
from jarvis_faults import report
from sky_rig import forget_the_server
from skypilot_faults.cases import Case
from skypilot_faults.journey import GUEST, Journey, Outcome, World
from skypilot_faults.verbs import Verbs, looking
from skypilot_faults.way import Way

PROPERTY = "skypilot fault"


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with Sky(tmp_path_factory.mktemp("sky")) as sky, Way(sky.port) as way:
        sky.make_cluster(GUEST)
        # What was written beside it goes straight to the server: let it be written anew.
        (sky.home.sky / ".sky" / "generated" / "ssh" / GUEST).unlink()
        yield World(sky, way)


@pytest.fixture
def attempt(world: World, tmp_path: Path) -> Iterator[Callable[..., tuple[Journey, Outcome]]]:
    """`attempt(case)`: a run through it, and what is left; everything is mended afterwards."""

    def go(case: Case | None, *, way: str | None = None) -> tuple[Journey, Outcome]:
        world.way.forgive()
        journey = Journey(world, tmp_path / "case", way or (case.phase.way if case else ""), case)
        return journey, journey.go()

    yield go
    world.way.forgive()
    world.clear()


@pytest.fixture(scope="module")
def verbs(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Verbs]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in world.environ.items():
            patch.setenv(name, value)
        forget_the_server()
        with looking(world.way, tmp_path_factory.mktemp("verbs")) as made:
            yield made
    forget_the_server()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The table of what was tried."""
    rows = [
        json.loads(str(value))
        for reports in terminalreporter.stats.values()
        for one in reports
        if getattr(one, "when", "") == "call"
        for key, value in getattr(one, "user_properties", ())
        if key == PROPERTY
    ]
    if rows:
        terminalreporter.write_line("")
        for line in report.table(rows):
            terminalreporter.write_line(line)
