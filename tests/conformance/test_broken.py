"""The suite finds out every backend that breaks a promise: a test that cannot fail holds nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from xml.etree import ElementTree

import pytest
from broken_backends import BROKEN

MODULE = """
from datetime import timedelta

import pytest
from rigs import local

from backends.lease import Keep
from backends.local import Local
from backends.testing import BackendContract

class Broken(BackendContract):
    @pytest.fixture(scope="class")
    @classmethod
    def rig(cls, tmp_path_factory):
        state = tmp_path_factory.mktemp("state")
        rig = local(state, "broken_backends:factory", detail=cls.__name__[4:])
        rig.patience = timedelta(seconds=5)
        yield rig
        honest = Local(rig.options)
        for record in honest._shelf.records():
            honest.release(record.lease(), keep=Keep.NOTHING)
"""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], str]:
    """How each broken backend fared in the case it breaks: `passed`, `failure` or `error`."""
    folder = tmp_path_factory.mktemp("broken")
    classes = [f"class Test{kind.__name__}(Broken):\n    pass\n" for kind in BROKEN]
    (folder / "test_broken.py").write_text(textwrap.dedent(MODULE) + "\n\n".join(classes))
    wanted = [f"test_broken.py::Test{kind.__name__}::{case}" for kind, case in BROKEN.items()]
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
        + ["--junit-xml=report.xml", *wanted],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 1, ran.stdout + ran.stderr
    return _read(folder / "report.xml")


@pytest.mark.parametrize(("kind", "case"), BROKEN.items(), ids=lambda v: getattr(v, "__name__", v))
def test_is_found_out(kind: type, case: str, outcomes: dict[tuple[str, str], str]) -> None:
    """The very case that holds the promise fails: in the case itself, not on the way to it."""
    assert outcomes[f"Test{kind.__name__}", case] == "failure"


def _read(report: Path) -> dict[tuple[str, str], str]:
    found = {}
    for case in ElementTree.parse(report).iter("testcase"):  # noqa: S314 - pytest wrote it just now
        kinds = [child.tag for child in case if child.tag in {"failure", "error", "skipped"}]
        name = (case.attrib["classname"].rpartition(".")[2], case.attrib["name"])
        found[name] = kinds[0] if kinds else "passed"
    return found
