"""Entries of `datasets` and `test_datasets` that say things the way of 2024, but for sharegpt."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from launcher.migrate.edits import Edit, Put, Remove, Rename, Step
from launcher.recipe.keypath import KeyPath
from launcher.recipe.references import BUILDERS

Config = dict[str, Any]


def entries(config: Config) -> Iterator[tuple[KeyPath, dict[str, Any]]]:
    """The key path and the mapping of each data set."""
    for key in ("datasets", "test_datasets"):
        listed = config.get(key)
        for index, entry in enumerate(listed if isinstance(listed, list) else []):
            if isinstance(entry, dict):
                yield (key, index), entry


def old_dataset_keys(config: Config) -> Iterator[Step]:
    """Keys of an entry that were renamed, or that its type does not read."""
    for at, entry in entries(config):
        split = entry.get("train_on_split")
        if split is not None:
            edit = Remove((*at, "train_on_split"))
            edits: tuple[Edit, ...] = (Rename((*at, "train_on_split"), "split"),)
            if "split" in entry:
                edits = (edit,)
            yield Step((*at, "train_on_split"), "train_on_split is now split", edits)
        if entry.get("type") == "chat_template" and entry.get("conversation") is not None:
            says = "conversation belonged to sharegpt, and chat_template does not read it"
            yield Step((*at, "conversation"), says, (Remove((*at, "conversation")),))


def message_fields(config: Config) -> Iterator[Step]:
    """`message_field_role` and `message_field_content` of the first `chat_template`."""
    for at, entry in entries(config):
        old = {
            name: entry[f"message_field_{name}"]
            for name in ("role", "content")
            if entry.get(f"message_field_{name}") is not None
        }
        if not old:
            continue
        mapped = entry.get("message_property_mappings")
        known = mapped if isinstance(mapped, dict) else {}
        first = f"message_field_{next(iter(old))}"
        put = Put((*at, "message_property_mappings"), {**known, **old}, after=first)
        gone = [Remove((*at, f"message_field_{name}")) for name in old]
        says = "message_field_role and message_field_content are now message_property_mappings"
        yield Step((*at, first), says, (put, *gone))


def builders(config: Config) -> Iterator[Step]:
    """A format as the path (`path: json`), with the file in `data_files`."""
    for at, entry in entries(config):
        kind, files = entry.get("path"), entry.get("data_files")
        if not isinstance(kind, str) or kind not in BUILDERS or not files:
            continue
        names = [files] if isinstance(files, str) else files
        says = f"a format is no longer a path: {kind} is ds_type, and the file is the path"
        if not isinstance(names, list) or len(names) != 1:
            hint = "make one entry of each file: path: FILE, ds_type: " + kind
            yield Step((*at, "path"), f"{says}; {hint}")
            continue
        yield Step(
            (*at, "path"),
            says,
            (
                Put((*at, "path"), names[0]),
                Put((*at, "ds_type"), kind, after="path"),
                Remove((*at, "data_files")),
            ),
        )
