"""The user's own Python: found beside the recipe, imports followed one level."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from backends.errors import Refused
from launcher import bundle
from launcher.recipe import Recipe

Load = Callable[..., Recipe]


def travelling(found: Recipe, folder: Path) -> set[str]:
    files = bundle.gather(found).files
    assert all(file.here.read_bytes() is not None for file in files)
    return {str(file.here.relative_to(folder)) for file in files}


@pytest.fixture
def tree(folder: Path) -> Path:
    files = {
        "plug.py": "import json, helper, torch\nfrom pkg.sub import thing\n",
        "helper.py": "import second\n",
        "second.py": "",
        "pkg/__init__.py": "from . import extra\n",
        "pkg/extra.py": "",
        "pkg/sub.py": "from .deep import x\n",
        "pkg/deep.py": "",
        "rewards.py": "def f():\n    from pkg import extra\n",
        "unused.py": "",
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"plugins": ["plug.Plugin"]}, {"plug.py", "helper.py", "pkg/__init__.py", "pkg/sub.py"}),
        (
            {"trainer_cls": "pkg.sub.Trainer"},
            {"pkg/__init__.py", "pkg/extra.py", "pkg/sub.py", "pkg/deep.py"},
        ),
        (
            {"trl": {"reward_funcs": ["rewards.f"]}},
            {"rewards.py", "pkg/__init__.py", "pkg/extra.py"},
        ),
        ({"trl": {"rollout_func": "second.f"}}, {"second.py"}),
        ({"datasets": [{"path": "o/d", "type": "second.load"}]}, {"second.py"}),
        ({"plugins": ["axolotl.integrations.liger.LigerPlugin"]}, set()),
        ({"plugins": ["elsewhere.Plugin", "..", "plug", 3, None, "a b.c"]}, set()),
        ({"datasets": [{"path": "o/d", "type": "chat_template.default"}]}, set()),
    ],
)
def test_modules_travel_with_what_they_import(
    load: Load, tree: Path, config: dict[str, object], expected: set[str]
) -> None:
    assert travelling(load(**config), tree) == expected


def test_a_module_that_is_not_python_is_refused_with_its_line(load: Load, tree: Path) -> None:
    (tree / "plug.py").write_text("x = 1\ndef (:\n")
    with pytest.raises(Refused, match=r"plug.py:2: this is not valid Python"):
        bundle.gather(load(plugins=["plug.P"]))


def test_an_import_that_climbs_above_everything_is_harmless(load: Load, tree: Path) -> None:
    (tree / "plug.py").write_text("from " + "." * 60 + " import x\n")
    assert travelling(load(plugins=["plug.P"]), tree) == {"plug.py"}


def test_modules_are_not_data(load: Load, tree: Path) -> None:
    gathered = bundle.gather(load(plugins=["second.P"]))
    assert [gathered.is_data(file) for file in gathered.files] == [False]
