"""Files and modules that the recipe names: whether they are there, and can be read."""

from __future__ import annotations

import glob
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from backends.errors import Refused
from launcher.bundle import missing, modules
from launcher.preflight.problem import Look, Problem
from launcher.recipe.references import Fate, Kind, is_vast
from launcher.wording import shown


def missing_files(look: Look) -> Iterator[Problem]:
    """Paths that lead nowhere."""
    for ref in look.references:
        if ref.fate is Fate.MISSING:
            yield look.error(ref.key, *missing.explain(look.recipe, ref))


def vast_folders(look: Look) -> Iterator[Problem]:
    """The whole disk as a data set: `path: /`, `path: ~`."""
    entries: dict[tuple[str | int, ...], dict[str, Any]] = dict(look.datasets())
    for ref in look.references:
        if entries.get(ref.key[:2], {}).get("data_files"):
            continue  # the folder is only where they start from
        if ref.fate is Fate.LOCAL and ref.paths[0].is_dir() and is_vast(ref.paths[0]):
            yield look.error(ref.key, *missing.too_vast(ref))


def deepspeed_json(look: Look) -> Iterator[Problem]:
    """A deepspeed config that is not JSON."""
    for ref in look.references:
        if ref.kind is not Kind.DEEPSPEED or ref.fate is not Fate.LOCAL:
            continue
        if not ref.paths[0].is_file():
            yield look.error(ref.key, f"{shown(ref.text)} is not a file")
            continue
        try:
            json.loads(ref.paths[0].read_bytes())
        except json.JSONDecodeError as problem:
            place = f"{shown(ref.text)}:{problem.lineno}:{problem.colno}"
            yield Problem(
                "error", place, f"this is not valid JSON: {problem.msg.removesuffix(' at')}"
            )
        except (ValueError, OSError, RecursionError):
            yield look.error(ref.key, f"{shown(ref.text)} cannot be read as JSON")


def user_modules(look: Look) -> Iterator[Problem]:
    """Modules that are not here, are not Python, or import what will not travel."""
    base = look.recipe.base_dir
    for named in modules.find(look.config, base):
        if not named.files:
            if named.key[0] in {"plugins", "trainer_cls", "trl"}:
                yield look.warning(
                    named.key,
                    f"the module of {shown(named.dotted)} is not beside the recipe",
                    f"put it in {shown(base)}, unless the job's environment has it",
                )
            continue
        try:
            travelling = modules.with_imports(named.files, base)
        except Refused as problem:
            yield look.error(named.key, problem.message, problem.hint)
            continue
        yield from _left_behind(look, named, travelling)


def _left_behind(look: Look, named: modules.Named, travelling: list[Path]) -> Iterator[Problem]:
    """Local imports beyond the first level."""
    base = look.recipe.base_dir
    included = _included(look)
    for file in travelling[len(named.files) :]:
        try:
            further = modules.imports(file, base)
        except Refused as problem:
            yield look.error(named.key, problem.message, problem.hint)
            continue
        for other in further:
            if other not in travelling and other not in included:
                name = shown(other.relative_to(base))
                yield Problem(
                    "warning",
                    shown(file),
                    f"it imports {name}, which does not travel: imports are followed one level",
                    f"add it to the recipe: include: [{name}]",
                )


def _included(look: Look) -> set[Path]:
    base = look.recipe.base_dir
    return {
        base / name
        for pattern in look.recipe.launch.include
        for name in (pattern, *glob.glob(pattern, root_dir=base, recursive=True))  # noqa: PTH207
    }
