"""The three things that are done to a config: a key is renamed, removed, or given a value.

An edit is applied twice: here to what the config means, in `launcher.migrate.text` to how it is
written. That both come to the same is checked after every migration.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from launcher.recipe import keypath
from launcher.recipe.keypath import KeyPath


@dataclass(frozen=True)
class Rename:
    """The key at `at` is called `to` from now on; its value and its place stay."""

    at: KeyPath
    to: str


@dataclass(frozen=True)
class Remove:
    """The key at `at` goes, with its value."""

    at: KeyPath


@dataclass(frozen=True)
class Put:
    """The key at `at` has this value; a new key stands after its sibling `after`, or last."""

    at: KeyPath
    value: Any
    after: str = ""


Edit = Rename | Remove | Put


@dataclass(frozen=True)
class Step:
    """One thing that has to change.

    at     the key it is about, as the recipe has it
    says   one sentence: what is no longer so, and what takes its place
    edits  how; empty for what only a person can decide, and `says` then tells what to do
    """

    at: KeyPath
    says: str
    edits: tuple[Edit, ...] = ()


def apply(config: dict[str, Any], edit: Edit) -> None:
    """Do it to the config's values, in place."""
    holder = keypath.get(config, edit.at[:-1])
    key = edit.at[-1]
    if isinstance(edit, Put):
        holder[key] = edit.value
        return
    value = holder.pop(key)
    if isinstance(edit, Rename):
        holder[edit.to] = value
