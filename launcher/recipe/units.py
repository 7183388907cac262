"""How people write durations, money, sizes and GPUs; each reader raises ValueError with why.

It is always ValueError, also for a value of the wrong type: pydantic turns only that into an error
of ours.
"""

from __future__ import annotations

import math
import re
from datetime import timedelta
from decimal import Decimal, InvalidOperation

_DURATION = re.compile(
    r"(?:(?P<d>\d+(?:\.\d+)?)d)?(?:(?P<h>\d+(?:\.\d+)?)h)?(?:(?P<m>\d+(?:\.\d+)?)m)?"
    r"(?:(?P<s>\d+(?:\.\d+)?)s)?"
)
_LONGEST = timedelta(days=365)
_MOST_DOLLARS = 1_000_000
_GIB = {"": 1, "g": 1, "gb": 1, "gib": 1, "t": 1024, "tb": 1024, "tib": 1024}
_SIZE = re.compile(r"(\d+)\s*([a-z]*)", re.IGNORECASE)
_GPU = re.compile(r"(?P<kind>[A-Za-z0-9][A-Za-z0-9._ -]*?)(?::(?P<count>\d+))?")


def duration(value: object) -> timedelta:
    """`2h30m`, `90m`, `1d`, or a number of seconds."""
    shape = f"{value!r} is no duration: it is written 2h30m, 90m, or as a number of seconds"
    if isinstance(value, timedelta):
        span = value
    elif isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(shape)  # noqa: TRY004
    elif isinstance(value, str):
        span = _spelled(value.replace(" ", "").lower(), shape)
    elif not math.isfinite(value) or value > _LONGEST.total_seconds():
        raise ValueError("a duration is at most a year")
    else:
        span = timedelta(seconds=value)
    if not timedelta(0) < span <= _LONGEST:
        raise ValueError(f"{value!r}: a duration is more than nothing and at most a year")
    return span


def _spelled(text: str, shape: str) -> timedelta:
    if text.isascii() and text.isdigit() and len(text) < 10:
        return timedelta(seconds=int(text))
    found = _DURATION.fullmatch(text)
    if not text or found is None or len(text) > 40:
        raise ValueError(shape)
    days, hours, minutes, seconds = (float(found[unit] or 0) for unit in "dhms")
    try:
        return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
    except OverflowError:
        raise ValueError("a duration is at most a year") from None


def dollars(value: object) -> Decimal:
    """`20`, `20.50`, `$20`, `20 USD`: an exact amount of US dollars above zero."""
    shape = f"{value!r} is no amount: it is written 20, 20.50 or 20 USD"
    if isinstance(value, Decimal):
        amount = value
    elif isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(shape)  # noqa: TRY004
    else:
        text = str(value).strip().removeprefix("$")
        if text[-3:].upper() == "USD":
            text = text[:-3]
        try:
            amount = Decimal(text.strip())
        except InvalidOperation:
            if re.fullmatch(r"[\d.]+ ?[A-Z]{3}", text):
                shape = f"{text[-3:]} is not understood: prices are in USD; {shape}"
            raise ValueError(shape) from None
    if not amount.is_finite() or not 0 < amount < _MOST_DOLLARS:
        raise ValueError(
            f"{value!r}: an amount is more than nothing, and less than a million dollars"
        )
    return amount


def gibibytes(value: object) -> int:
    """`64`, `64GiB`, `64GB` (read as GiB, as providers mean it), `2TiB`: whole gibibytes."""
    shape = f"{value!r} is no size: it is written 64GiB, or as a number of GiB"
    found = None
    if not isinstance(value, bool) and isinstance(value, int | str):
        found = _SIZE.fullmatch(str(value).strip())
    if found is None or found[2].lower() not in _GIB or len(found[1]) > 9:
        raise ValueError(shape)
    size = int(found[1]) * _GIB[found[2].lower()]
    if size <= 0:
        raise ValueError(f"{value!r}: a size is more than nothing")
    return size


def gpu(value: object) -> tuple[str, int]:
    """`H100` or `H100:2`: a kind and how many."""
    shape = "a GPU is written H100 or H100:2"
    if isinstance(value, bool) or not isinstance(value, str):
        raise ValueError(f"{shape}; put it in quotes when the name is a number")  # noqa: TRY004
    found = _GPU.fullmatch(value.strip())
    if found is None or len(found["count"] or "") > 4:
        raise ValueError(shape)
    count = int(found["count"] or 1)
    if count < 1:
        raise ValueError("the number of GPUs is at least 1")
    return found["kind"].strip(), count
