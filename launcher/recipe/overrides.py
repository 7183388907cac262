"""Values put over a config: a recipe's `set`, the command line's `--set`, and `--data`.

A value after `--set` is read as PyYAML reads a plain scalar, because that is how axolotl reads its
file: `true` is a boolean, `8` a number, `2e-4` text (axolotl makes a number of it), nothing null.
What begins with a bracket, a brace or a quote is read as YAML: `[q_proj, v_proj]`, `"true"`.
Anything else is text exactly as typed, so that a path may hold `: ` or ` #`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import PurePosixPath
from typing import Any

import yaml

from backends.errors import BadInput, FtlaunchError
from launcher.changes import Change
from launcher.recipe import keypath, yamltext
from launcher.recipe.keypath import KeyPath
from launcher.wording import quoted, shown

Complaint = Callable[[str, str], FtlaunchError]
"""Makes the error from a sentence and a hint: BadInput for the command line, Refused for a file."""


def unshared(value: Any) -> Any:
    """A copy in which no two places are one object, as YAML aliases make them."""
    if isinstance(value, dict):
        return {key: unshared(each) for key, each in value.items()}
    return [unshared(each) for each in value] if isinstance(value, list) else value


def split(text: str) -> tuple[KeyPath, Any]:
    """The key path and the value of one `--set` argument. Raises BadInput."""
    key, equals, value = text.partition("=")
    example = "for example: --set learning_rate=2e-4 or --set datasets[0].path=my.jsonl"
    if not equals:
        raise BadInput(f"--set {quoted(text)} holds no '='", hint=example)
    try:
        path = keypath.parse(key.strip())
    except ValueError as problem:
        raise BadInput(
            f"--set {quoted(key)} does not name a key: {problem}", hint=example
        ) from None
    return path, _value(value, key)


def _value(text: str, key: str) -> Any:
    if text.lstrip()[:1] not in {"[", "{", '"', "'"}:
        return yamltext.scalar(text)
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        raise BadInput(
            f"the value of --set {shown(key)} cannot be read as YAML: {shown(text)}",
            hint="close every bracket and quote; text that begins with one goes in quotes itself",
        ) from None


def assign(
    config: dict[str, Any], path: KeyPath, value: Any, complain: Complaint
) -> tuple[KeyPath, Any]:
    """Set one value, making the mappings on the way.

    Returns the path with indices as numbers, and the value that was there.
    """
    here: Any = config
    before: Any = None
    settled: list[str | int] = []
    for position, part in enumerate(path):
        step = _step(here, part, path, settled, complain)
        settled.append(step)
        if position == len(path) - 1:
            before = here.get(step) if isinstance(here, dict) else here[step]
            here[step] = unshared(value)
        else:
            if isinstance(here, dict) and here.get(step) is None:
                here[step] = {}
            here = here[step]
    return tuple(settled), before


def _step(
    here: Any, part: str | int, path: KeyPath, settled: Sequence[str | int], complain: Complaint
) -> str | int:
    """The key or index that `part` means in `here`."""
    name, above = shown(keypath.spell(path)), shown(keypath.spell(settled))
    if isinstance(here, list):
        if isinstance(part, str) and not (part.isascii() and part.isdigit()):
            raise complain(
                f"{name} cannot be set: {above} is a list",
                f"say which entry, for example {above}[0].{part}",
            )
        index = int(part)
        if not 0 <= index < len(here):
            raise complain(
                f"{name} cannot be set: {above} has {_entries(len(here))}",
                "entries are counted from 0; to replace the list: --set "
                f"'{above}=[{{path: my.jsonl, type: alpaca}}]'",
            )
        return index
    if isinstance(here, dict):
        if isinstance(part, int):
            raise complain(f"{name} cannot be set: {above or 'the config'} is not a list", "")
        return _present(here, part)
    raise complain(f"{name} cannot be set: {above} is a single value, with nothing inside it", "")


def _present(here: dict[Any, Any], part: str) -> str | int:
    """The key as it is there: a mapping may have the number 128041 as a key."""
    if part not in here and part.isascii() and part.isdigit() and int(part) in here:
        return int(part)
    return part


def _entries(count: int) -> str:
    return {0: "no entries", 1: "one entry"}.get(count, f"{count} entries")


_FORMATS = {
    ".json": "json",
    ".jsonl": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".txt": "text",
}
_PACKED = {".gz", ".bz2", ".xz", ".zst", ".zip"}
_OF_THE_OLD_DATA = ("data_files", "name", "revision", "shards", "shards_idx", "preprocess_shards")


def format_of(path: str) -> str | None:
    """The `ds_type` that a file's extension stands for; None when it stands for none."""
    suffixes = [suffix.lower() for suffix in PurePosixPath(path).suffixes]
    while suffixes and suffixes[-1] in _PACKED:
        suffixes.pop()
    return _FORMATS.get(suffixes[-1]) if suffixes else None


def format_axolotl_takes(path: str) -> str:
    """The `ds_type` axolotl settles on by itself, from an extension anywhere in the path."""
    for extension in (".parquet", ".arrow", ".csv", ".txt"):
        if extension in path:
            return _FORMATS[extension]
    return "json"


def put_data(
    config: dict[str, Any], text: str, why: str, complain: Complaint, *, folder: bool
) -> tuple[KeyPath, list[Change]]:
    """Make `text` the path of the first data set; what described the old one's files goes.

    Returns where the path stands now, and what was changed.
    """
    key = next((key for key in ("datasets", "pretraining_dataset") if config.get(key)), None)
    entries = config.get(key) if key else None
    if key is None or not isinstance(entries, list) or not isinstance(entries[0], dict):
        raise complain(
            "there is no data set whose place the data could take: the config has no datasets",
            "add one to the config: datasets: [{path: my.jsonl, type: alpaca}]",
        )
    entry = entries[0]
    changes = [Change(f"{key}[0].path", entry.get("path"), text, why)]
    entry["path"] = text

    def change(name: str, after: Any, reason: str) -> None:
        changes.append(Change(f"{key}[0].{name}", entry.get(name), after, reason))
        entry.pop(name) if after is None else entry.__setitem__(name, after)

    for name in _OF_THE_OLD_DATA:
        if entry.get(name) is not None:
            change(name, None, f"it describes the data that {why} replaced")
    if entry.get("split") is not None and not str(entry["split"]).startswith("train"):
        change("split", None, "a local file has only the split train")
    wanted = None if folder else format_of(text)
    taken = entry.get("ds_type") or format_axolotl_takes(text)
    if wanted is not None and taken != wanted:
        change("ds_type", wanted, f"the file's extension is {PurePosixPath(text).suffix}")
    elif folder and entry.get("ds_type") is not None:
        change("ds_type", None, "a folder says itself what it holds")
    return (key, 0, "path"), changes
