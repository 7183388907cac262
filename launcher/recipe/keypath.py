"""Where a value stands in a config: `datasets[0].path`, or `datasets.0.path`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

KeyPath = tuple[str | int, ...]
"""Mapping keys and list indices, outermost first."""

_PART = re.compile(r"(?P<name>[^.\[\]]+)|\[(?P<index>-?\d+)\]|(?P<bad>.)", re.DOTALL)


def parse(text: str) -> KeyPath:
    """The path that `text` spells; raises ValueError with a phrase that says what is wrong.

    A part made of digits only is text here: `step` decides, by what it meets, whether it is an
    index or a key.
    """
    path: list[str | int] = []
    after_dot = True
    for match in _PART.finditer(text):
        if match["name"] is not None:
            if not after_dot:
                raise ValueError(f"a dot is missing before {match['name']!r}")
            path.append(match["name"])
            after_dot = False
        elif match["index"] is not None:
            if after_dot:
                raise ValueError("an index needs a name before it")
            path.append(int(match["index"]))
        elif match["bad"] == "." and not after_dot:
            after_dot = True
        else:
            raise ValueError(f"{match['bad']!r} is not expected there")
    if after_dot:
        raise ValueError("a name is missing" if path else "it is empty")
    return tuple(path)


def spell(path: Sequence[str | int]) -> str:
    """The path as a person writes it."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def get(value: Any, path: Sequence[str | int]) -> Any:
    """The value at `path`; None when there is none."""
    for part in path:
        if isinstance(value, list) and isinstance(part, int) and 0 <= part < len(value):
            value = value[part]
        elif isinstance(value, dict):
            value = value.get(part)
        else:
            return None
    return value


def put(value: Any, path: Sequence[str | int], new: Any) -> None:
    """Replace the value at `path`, which must be there, in place."""
    get(value, path[:-1])[path[-1]] = new
