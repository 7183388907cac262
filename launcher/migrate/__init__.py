"""A recipe of 2024 as axolotl 0.19 wants it, with nothing in the file changed that need not be.

Rules (`renamed`, `datasets`, `sharegpt`, `container`) say in `Step`s what has to change. Each edit
is done to the values and to the text; at the end PyYAML must read the text as those values, else
nothing is written.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backends.errors import Refused
from launcher import recipe as recipes
from launcher.migrate import container, datasets, renamed, sharegpt, text
from launcher.migrate.edits import Step, apply
from launcher.migrate.prompts import Compared, compare
from launcher.recipe import keypath, overrides, reading, source, yamltext
from launcher.recipe.keypath import KeyPath
from launcher.wording import shown

__all__ = ["Migration", "migrate"]

_RULES: tuple[Callable[[dict[str, Any]], Iterator[Step]], ...] = (
    renamed.changed_values,
    sharegpt.sharegpt,
    datasets.builders,
    datasets.old_dataset_keys,
    datasets.message_fields,
    renamed.renamed_keys,
    renamed.removed_keys,
    renamed.moved_keys,
)


@dataclass(frozen=True)
class Done:
    """One step, and the line of the old text it is about."""

    where: str
    says: str


@dataclass(frozen=True)
class Migration:
    """What a recipe needs.

    label     the config's text in messages
    path      the file; None for a URL or a bundled recipe, which are not written
    before    the text as it is
    after     the text as it should be
    done      what is changed
    by_hand   what only a person can decide
    supplied  files to be laid beside the recipe: name from its folder -> ours
    prompts   the first rows of data sets whose prompts are made otherwise now
    """

    label: str
    path: Path | None
    before: str
    after: str
    done: tuple[Done, ...]
    by_hand: tuple[Done, ...]
    supplied: dict[Path, Path]
    prompts: tuple[Compared, ...]

    @property
    def needed(self) -> bool:
        """Whether anything is to be done, by the program or by hand."""
        return bool(self.done or self.by_hand or self.supplied)

    def diff(self) -> str:
        """A unified diff from the text as it is."""
        lines = difflib.unified_diff(
            self.before.splitlines(keepends=True),
            self.after.splitlines(keepends=True),
            fromfile=self.label,
            tofile=f"{self.label} (migrated)",
        )
        return "".join(line if line.endswith("\n") else f"{line}\n" for line in lines)


def migrate(given: str, *, cwd: Path) -> Migration:
    """What the recipe `given` needs; a launch recipe's config is what is migrated.

    Raises BadInput and Refused as `recipe.load` does, and Refused for a text that cannot be edited.
    """
    base = recipes.load(given, cwd=cwd).base_dir
    found = source.recipe(given, cwd=cwd)
    path = _file(cwd, given)
    document = yamltext.parse(found.text, label=found.label)
    prefix: KeyPath = ()
    if reading.is_launch(reading.mapping(document)):
        named = reading.launch(document).config
        if isinstance(named, str):
            where = document.where(["config"])
            path = None if found.folder is None else _file(found.folder, named)
            found = source.config(named, folder=found.folder or cwd, where=where)
            document = yamltext.parse(found.text, label=found.label)
        else:
            prefix = ("config",)
    return _migrated(found, document, prefix, path, base)


def _file(folder: Path, name: str) -> Path | None:
    path = folder / Path(name).expanduser() if "://" not in name else None
    return path if path is not None and path.is_file() else None


def _migrated(
    found: source.Text,
    document: yamltext.Document,
    prefix: KeyPath,
    path: Path | None,
    base: Path,
) -> Migration:
    before = overrides.unshared(keypath.get(document.value, prefix))
    config = overrides.unshared(before)
    after = found.text
    done: list[Done] = []
    by_hand: list[Done] = []
    for rule in (*_RULES, _at(container.deepspeed, base), _at(container.paths, base)):
        for step in list(rule(config)):
            told = Done(document.where((*prefix, *step.at)), step.says)
            (done if step.edits else by_hand).append(told)
            for edit in step.edits:
                try:
                    after = text.edited(after, edit, prefix)
                except text.CannotEdit as problem:
                    raise _cannot(told, f"{problem}") from None
                apply(config, edit)
    _require_same(after, config, prefix, found.label, done)
    return Migration(
        label=found.label,
        path=path,
        before=found.text,
        after=after,
        done=tuple(done),
        by_hand=tuple(by_hand),
        supplied=_supplied(config, base),
        prompts=tuple(compare(before, config, base)),
    )


def _at(
    rule: Callable[[dict[str, Any], Path], Iterator[Step]], base: Path
) -> Callable[[dict[str, Any]], Iterator[Step]]:
    return lambda config: rule(config, base)


def _supplied(config: dict[str, Any], base: Path) -> dict[Path, Path]:
    """Our deepspeed file, where the config names it and there is none."""
    named = config.get("deepspeed")
    ours = container.bundled_deepspeed(named) if isinstance(named, str) else None
    if ours is None or (base / str(named)).exists():
        return {}
    return {base / str(named): ours}


def _require_same(
    after: str, config: dict[str, Any], prefix: KeyPath, label: str, done: list[Done]
) -> None:
    """PyYAML must read the new text as the new values: nothing else may have changed."""
    read = keypath.get(yamltext.parse(after, label=f"{label}, migrated").value, prefix)
    if read != config:
        raise _cannot(done[0], "an alias or a merge key (<<) says it in more than one place")


def _cannot(told: Done, why: str) -> Refused:
    return Refused(
        f"{told.where}: this cannot be changed without changing more: {shown(why)}",
        hint=f"change it by hand: {told.says}",
    )
