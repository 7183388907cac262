from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from launcher import recipe
from launcher.bundle import Bundle
from launcher.recipe import Recipe


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The recipe's folder, below another, with a name that spoils what is not careful."""
    odd = tmp_path / "up" / "-p 'q\"r\n ü [s]"
    odd.mkdir(parents=True)
    return odd.resolve()


@pytest.fixture
def load(folder: Path) -> Callable[..., Recipe]:
    """A recipe with these config keys (and launch keys under `said`)."""

    def write_and_load(said: dict[str, object] | None = None, **config: object) -> Recipe:
        plain = {"base_model": "owner/model", **config}
        document = plain if said is None else {"config": plain, **said}
        (folder / "r.yml").write_text(yaml.safe_dump(document, sort_keys=False))
        return recipe.load("r.yml", cwd=folder)

    return write_and_load


@pytest.fixture
def lay_out(tmp_path: Path) -> Callable[[Bundle], Path]:
    """Do what a backend does: copy everything to its place; returns the working directory."""

    def copy(bundle: Bundle) -> Path:
        run = tmp_path / "run"
        shutil.rmtree(run, ignore_errors=True)
        trees = [(run, bundle.files), *((run / c.at, c.tree.files) for c in bundle.caches)]
        for cache in bundle.caches:
            (run / cache.at).mkdir(parents=True)  # fails when something lies there already
        for top, files in trees:
            for file in files:
                assert not file.at.is_absolute()
                assert ".." not in file.at.parts
                target = top / file.at
                target.parent.mkdir(parents=True, exist_ok=True)
                assert not target.exists()
                shutil.copyfile(file.here, target)
        (run / bundle.workdir).mkdir(parents=True, exist_ok=True)
        return run / bundle.workdir

    return copy
