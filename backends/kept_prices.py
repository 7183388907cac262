"""A provider's price list as it was last asked for, kept here for when nobody can be asked.

One JSON file in the backend's own folder. A list that ftlaunch brings along stands in for one that
is not there, or older.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from backends import notes
from backends.errors import Refused

FILE = "prices.json"
SCHEMA = 1

T = TypeVar("T")

_SLOW = timedelta(days=1)
"""So far this computer's clock may be behind the one that a list was dated by."""


def keep(folder: Path, rows: Mapping[str, Any], *, read_at: datetime) -> None:
    """Write a list down; where that cannot be done nothing is lost but the next look without a key.

    rows  what JSON can hold
    """
    text = json.dumps({"schema": SCHEMA, "read_at": read_at.isoformat(), **rows}, indent=1)
    with contextlib.suppress(OSError):
        notes.write(folder / FILE, text)


def kept(
    folder: Path, read: Callable[[Mapping[str, Any], datetime], T], *, since: datetime
) -> T | None:
    """The list that was kept, as `read` makes it; None where there is none younger than `since`.

    One that says it is of a day to come is none: it would be the youngest for ever.
    read  given the rows and the day; raises KeyError, TypeError or ValueError for odd ones
    Raises Refused, naming the file, for one that is damaged.
    """
    path = folder / FILE
    try:
        raw = json.loads(path.read_text("utf-8"))
        if raw["schema"] != SCHEMA:
            return None  # of another ftlaunch
        read_at = datetime.fromisoformat(raw["read_at"]).astimezone(UTC)
        return read(raw, read_at) if since < read_at < datetime.now(UTC) + _SLOW else None
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, ArithmeticError) as error:
        raise Refused(
            f"the price list {path} is damaged",
            hint="remove it, or ask anew with: ftlaunch prices update",
        ) from error
