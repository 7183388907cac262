"""A backend from another distribution: installed, found by its name, held to the contract."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import uv
from rigs import HERE, ThisMachine

from backends import registry
from backends.protocol import Options
from backends.testing import BackendContract, Rig

SOURCE = Path(__file__).resolve().parent.parent / "stranger"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The stranger's distribution, really built and installed, in a folder on the path."""
    folder = tmp_path_factory.mktemp("stranger")
    shutil.copytree(SOURCE, folder / "source")
    target = folder / "site"
    subprocess.run(
        [
            *(uv.find_uv_bin(), "pip", "install", "--quiet", "--offline", "--no-deps"),
            *("--no-cache", "--python", sys.executable, "--target", str(target)),
            str(folder / "source"),
        ],
        check=True,
        cwd=folder,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(target))
        yield target


class TestStranger(BackendContract):
    @pytest.fixture(scope="class")
    @classmethod
    def rig(cls, installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Rig:
        options = Options(tmp_path_factory.mktemp("state"), environ=dict(os.environ))
        return ThisMachine(factory="stranger:factory", options=options, supports=HERE)


def test_is_found_by_name(installed: Path, tmp_path: Path) -> None:
    """It registers the way our own do, and is loaded by the name it chose."""
    assert "stranger" in registry.names()
    assert "local" in registry.names()
    backend = registry.load("stranger:anything", state_dir=tmp_path)
    assert backend.name == "stranger"
    assert backend.check()[0].ok
    assert (tmp_path / "stranger").is_dir(), "each backend has a state folder of its own"


def test_imports_nothing_of_the_launcher(installed: Path) -> None:
    """A backend needs `backends` and the standard library; the launcher is not drawn in."""
    ran = subprocess.run(
        [sys.executable, "-c", "import stranger, sys; print('launcher' in sys.modules)"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.strip() == "False"
