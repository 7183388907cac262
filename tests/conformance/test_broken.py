"""The suite finds out every backend that breaks a promise: what cannot fail holds nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree  # noqa: ICN001 - `ET` says nothing

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


PARTS = 6


@pytest.mark.parametrize("part", range(PARTS))
def test_every_broken_backend_is_found_out(part: int, tmp_path: Path) -> None:
    """The very case that holds the promise fails: in the case itself, not on the way to it."""
    broken = {kind.__name__: case for kind, case in list(BROKEN.items())[part::PARTS]}
    classes = [f"class Test{name}(Broken):\n    pass\n" for name in broken]
    (tmp_path / "test_broken.py").write_text(MODULE + "\n\n".join(classes))
    cases = [f"test_broken.py::Test{name}::{case}" for name, case in broken.items()]
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--junit-xml=report.xml"]
    said = tmp_path / "said.txt"
    # Under CI pytest spells out every difference in full, which can take it minutes.
    environ = {name: value for name, value in os.environ.items() if name != "CI"}
    # Into a file: a pipe would wait for every process that a broken backend leaves behind.
    with said.open("wb") as out:
        subprocess.run(
            [sys.executable, "-m", "pytest", *options, *cases],
            cwd=tmp_path,
            env={**environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            check=False,
        )
    expected = {(f"Test{name}", case): "failure" for name, case in broken.items()}
    assert _read(tmp_path / "report.xml") == expected, said.read_text()


def _read(report: Path) -> dict[tuple[str, str], str]:
    """How each case fared: `passed`, `failure`, `skipped`, or `error` when it never got going."""
    found: dict[tuple[str, str], str] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        kinds = [child.tag for child in case if child.tag in {"failure", "error", "skipped"}]
        name = (case.attrib["classname"].rpartition(".")[2], case.attrib["name"])
        found.setdefault(name, kinds[0] if kinds else "passed")
    return found
