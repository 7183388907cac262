"""Reading a key of an axolotl config the way axolotl would; raises BadInput with a sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from backends.errors import BadInput

Config = Mapping[str, Any]


def on(config: Config, key: str) -> bool:
    """Whether a switch is on, in YAML or in words."""
    value = config.get(key)
    if isinstance(value, str):
        return value.lower() not in ("", "false", "no", "off", "0", "none")
    return bool(value)


def whole(config: Config, key: str, otherwise: int) -> int:
    """A whole number, 1 or more."""
    value = config.get(key)
    if value is None or value == "":
        return otherwise
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if isinstance(value, bool) or not math.isfinite(found) or found % 1 or found < 1:
        raise BadInput(f"{key} is {value!r}", hint="it is a whole number, 1 or more")
    return int(found)


def number(config: Config, key: str, otherwise: float) -> float:
    """A number."""
    value = config.get(key)
    if value is None or value == "":
        return otherwise
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise BadInput(f"{key} is {value!r}", hint="it is a number") from error


def words(config: Config, key: str) -> list[str]:
    """A list of words, or words in a text."""
    value = config.get(key)
    if isinstance(value, str):
        return value.split()
    if isinstance(value, Sequence):
        return [each for each in value if isinstance(each, str)]
    return []


def section(config: Config, key: str) -> Mapping[str, Any]:
    """A mapping below; empty where there is none."""
    value = config.get(key)
    return value if isinstance(value, Mapping) else {}
