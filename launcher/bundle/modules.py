"""The user's own Python that a config names: found beside the recipe, local imports one level deep.

The job's working directory is first on `sys.path`, so a dotted name is looked for there only.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backends.errors import Refused
from launcher.recipe.keypath import KeyPath
from launcher.wording import shown


@dataclass(frozen=True)
class Named:
    """A dotted name in the config, and the files here that hold it (none when it is not here)."""

    key: KeyPath
    dotted: str
    files: tuple[Path, ...]


def find(config: dict[str, Any], base: Path) -> list[Named]:
    """Every dotted name that the config may mean as a user's module."""
    return [Named(key, dotted, tuple(resolve(dotted, base))) for key, dotted in _names(config)]


def _names(config: dict[str, Any]) -> Iterator[tuple[KeyPath, str]]:
    plugins = config.get("plugins")
    for index, name in enumerate(plugins if isinstance(plugins, list) else []):
        yield from _dotted(("plugins", index), name)
    yield from _dotted(("trainer_cls",), config.get("trainer_cls"))
    trl = config.get("trl")
    if isinstance(trl, dict):
        rewards = trl.get("reward_funcs")
        for index, name in enumerate(rewards if isinstance(rewards, list) else []):
            yield from _dotted(("trl", "reward_funcs", index), name)
        yield from _dotted(("trl", "rollout_func"), trl.get("rollout_func"))
    for key in ("datasets", "test_datasets", "pretraining_dataset"):
        entries = config.get(key)
        for index, entry in enumerate(entries if isinstance(entries, list) else []):
            if isinstance(entry, dict):
                yield from _dotted((key, index, "type"), entry.get("type"))


def _dotted(key: KeyPath, name: Any) -> Iterator[tuple[KeyPath, str]]:
    if isinstance(name, str) and "." in name and not name.startswith("axolotl."):
        yield key, name


def resolve(dotted: str, folder: Path) -> list[Path]:
    """The file of the longest beginning of `dotted` that is a module here, its packages first."""
    parts = dotted.split(".")
    if not all(part.isidentifier() for part in parts):
        return []
    for length in range(len(parts), 0, -1):
        stem = folder.joinpath(*parts[:length])
        for file in (stem.with_name(f"{stem.name}.py"), stem / "__init__.py"):
            if file.is_file():
                return [*_packages(folder, parts[: length - 1]), file]
    return []


def _packages(folder: Path, parts: list[str]) -> Iterator[Path]:
    for length in range(1, len(parts) + 1):
        init = folder.joinpath(*parts[:length], "__init__.py")
        if init.is_file():
            yield init


def with_imports(files: tuple[Path, ...], base: Path) -> list[Path]:
    """The files, and what they import from beside the recipe; not what those import in turn."""
    found = list(files)
    for file in files:
        found += imports(file, base)
    return list(dict.fromkeys(found))


def imports(file: Path, base: Path) -> list[Path]:
    """The local files that one module imports, anywhere in it. Raises Refused for broken Python."""
    try:
        tree = ast.parse(file.read_bytes(), filename=str(file))
    except SyntaxError as problem:
        raise Refused(
            f"{shown(file)}:{problem.lineno or 1}: this is not valid Python: {problem.msg}"
        ) from None
    except (ValueError, RecursionError):
        raise Refused(f"{shown(file)} cannot be read as Python") from None
    except OSError as problem:
        raise Refused(f"{shown(file)} cannot be read: {problem.strerror}") from None
    found: list[Path] = []
    for folder, dotted in _imported(tree, file, base):
        found += resolve(dotted, folder)
    return list(dict.fromkeys(found))


def _imported(tree: ast.AST, file: Path, base: Path) -> Iterator[tuple[Path, str]]:
    """Pairs of a folder and a dotted name to look for in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((base, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            folder = base
            if node.level:
                folder = file.parents[min(node.level, len(file.parents)) - 1]
            names = [alias.name for alias in node.names if alias.name != "*"]
            for name in names or [""]:
                yield folder, ".".join(filter(None, (node.module, name)))
