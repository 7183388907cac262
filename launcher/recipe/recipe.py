"""A recipe as the rest of the launcher sees it, with the place every value came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launcher.changes import Change
from launcher.recipe import keypath
from launcher.recipe.keypath import KeyPath
from launcher.recipe.model import LaunchRecipe
from launcher.recipe.yamltext import Document


@dataclass(frozen=True)
class Recipe:
    """A config to run, and how.

    name           the file's stem or the bundled name; not yet safe as a run's name
    origin         what the user asked for, for people
    base_dir       absolute, without links: where relative paths in the config start from
    config         what axolotl is to read, after `set`, `data`, `--set` and `--data`
    config_text    the config's text as it was found, or the recipe's when it holds the config
    config_origin  the config's file, for people
    changes        what `data` and the settings put over the file
    """

    name: str
    origin: str
    base_dir: Path
    config: dict[str, Any]
    config_text: str
    config_origin: str
    launch: LaunchRecipe
    changes: tuple[Change, ...] = ()
    said: Document | None = field(default=None, repr=False)
    """The document the launch keys stand in; None for a plain config."""
    _config: Document | None = field(default=None, repr=False)
    _prefix: KeyPath = field(default=(), repr=False)
    _over: Mapping[KeyPath, str] = field(default_factory=dict, repr=False)

    def where(self, key: str | Sequence[str | int]) -> str:
        """`file:line` of a config key (`datasets[0].path`), or the option that set it.

        For a key that is not there: the line of the nearest thing above it.
        """
        path = keypath.parse(key) if isinstance(key, str) else tuple(key)
        for length in range(len(path), 0, -1):
            if path[:length] in self._over:
                return self._over[path[:length]]
        if self._config is None:
            return self.config_origin
        return self._config.where((*self._prefix, *path))

    def where_said(self, key: str | Sequence[str | int]) -> str:
        """`file:line` of a launch key (`include[0]`)."""
        path = keypath.parse(key) if isinstance(key, str) else tuple(key)
        return self.origin if self.said is None else self.said.where(path)
