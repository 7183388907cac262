"""One loopback control plane for each worker of the fault run, and the table at the end."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from clouds.modal.cloud import Cloud
from jarvis_faults import report
from modal_faults.cases import Case
from modal_faults.journey import Journey, Outcome

PROPERTY = "modal fault"


@pytest.fixture(scope="session")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with Cloud(tmp_path_factory.mktemp("modal") / "cloud") as made:
        yield made


@pytest.fixture
def attempt(
    cloud: Cloud, tmp_path: Path
) -> Iterator[Callable[[Case | None], tuple[Journey, Outcome]]]:
    """`attempt(case)`: a run through it, and what is left; everything is mended afterwards."""

    def go(case: Case | None) -> tuple[Journey, Outcome]:
        cloud.forgive()
        journey = Journey(cloud, tmp_path / "case", case)
        return journey, journey.go()

    yield go
    cloud.forgive()
    for app in cloud.state["apps"]:
        if not app["over"]:
            cloud.admin("stop", app=app["id"])


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
