"""Parts of the machine that a test needs and that may be absent: said once, and fatal under CI."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import pytest
import turns
from grouping import longest_first

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Begun in the background of a shell, which turns interrupts off for all that we start.
    signal.signal(signal.SIGINT, signal.default_int_handler)

_KEY = "missing part"

Missing = Callable[[str, str], NoReturn]


@pytest.fixture
def missing(request: pytest.FixtureRequest) -> Missing:
    """`missing(what, why)`: give up this test for want of a part; the run's end says so."""

    def give_up(what: str, why: str) -> NoReturn:
        # A user property reaches the summary from an xdist worker, too.
        request.node.user_properties.append((_KEY, f"{what}: {why}"))
        pytest.skip(f"{what} is missing: {why}")

    return give_up


FULL = "full" in {os.environ.get(f"FTLAUNCH_{what}") for what in ("TESTS", "SKYPILOT", "FAULTS")}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What is marked `seldom` takes long: it is run with FTLAUNCH_TESTS=full, and by -k.

    Of the stories that take turns one is told, unless they were asked for by name.
    """
    items[:] = longest_first(items)
    if FULL or config.option.keyword:
        return
    off = turns.off({item.path.name for item in items})
    left = [item for item in items if item.get_closest_marker("seldom") or item.path.name in off]
    config.hook.pytest_deselected(items=left)
    items[:] = [item for item in items if item not in left]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object | None:
    """`--dist loadscope` keeps together what `grouping` says."""
    if config.getvalue("dist") != "loadscope":
        return None
    from grouping import Grouped

    return Grouped(config, log)


def pytest_report_header() -> str:
    """What is left out is said, and how it is run."""
    if FULL:
        return ""
    return (
        f"left out: what is marked as seldom, and {turns.said()} (all of it: FTLAUNCH_TESTS=full)"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """What is marked `slurm` is not begun without the parts of that rig."""
    if item.get_closest_marker("slurm") is None:
        return
    from clouds.skypilot.rig import missing_parts

    if parts := missing_parts():
        item.user_properties.append((_KEY, f"SkyPilot's rig: {parts}"))
        pytest.skip(f"SkyPilot's rig lacks {parts}")


def _said(reporter: pytest.TerminalReporter) -> Iterator[str]:
    for report in reporter.stats.get("skipped", ()):
        for key, value in getattr(report, "user_properties", ()):
            if key == _KEY:
                yield str(value)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line for each missing part."""
    found = list(_said(terminalreporter))
    for part in sorted(set(found)):
        terminalreporter.write_line(f"MISSING {part} ({found.count(part)} tests not run)", red=True)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Under CI every part must be there."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") == "true" and reporter is not None and any(_said(reporter)):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
