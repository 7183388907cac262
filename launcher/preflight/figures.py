"""Numbers as axolotl reads them from a config."""

from __future__ import annotations

from typing import Any


def number(value: Any) -> float | None:
    """The number that axolotl makes of a value; None when it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None
