"""Rows measured without a tokenizer: by the bytes of their text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

from launcher.quotes.rows import Counted

BYTES_PER_TOKEN = 3.8
"""Of English text and code under today's vocabularies of 32 to 150 thousand: between 3 and 4.5."""

TEMPLATE_TOKENS = 12
"""That a chat template or a prompt's frame puts around one row's text, about."""

MOST_ROWS = 20_000
"""Rows of a file that are looked at; the rest is taken to be like them, by its bytes."""

HOW = f"counted in bytes, {BYTES_PER_TOKEN} a token"


def counted(path: Path, *, pairs: bool) -> list[Counted] | str:
    """The rows of a file, or of all files of a folder; a sentence where they cannot be read.

    pairs  each row is fed twice, with either answer
    """
    found = []
    for file in _files(path):
        lengths = _lengths(file, file.stat().st_mtime_ns, MOST_ROWS, pairs=pairs)
        if not lengths:
            return f"{file.name} cannot be counted here: only JSON rows are"
        seen = len(lengths) // (2 if pairs else 1)
        times = 1.0 if seen < MOST_ROWS else _times(file, lengths)
        found.append(Counted(lengths, round(seen * times), times))
    return found


def _files(path: Path) -> Iterator[Path]:
    if path.is_dir():
        yield from sorted(each for each in path.rglob("*") if each.is_file())
    else:
        yield path


@cache
def _lengths(file: Path, changed_ns: int, most: int, *, pairs: bool) -> list[float]:
    """Tokens of each row, about; nothing for a file that is not JSON.

    changed_ns  when it was written last: a changed file is read anew
    """
    from launcher.preflight import jsonrows  # it brings all checks: not where tokens are counted

    del changed_ns
    try:
        rows = islice(jsonrows.rows(file), most)
        sizes = (size for row in rows for size in _sides(row.value, pairs=pairs))
        return [size / BYTES_PER_TOKEN + TEMPLATE_TOKENS for size in sizes]
    except (jsonrows.BrokenRow, OSError, UnicodeDecodeError):
        return []


def _sides(row: Any, *, pairs: bool) -> Iterable[int]:
    """Bytes of a row's text: of a preference pair, of what is fed with each answer."""
    whole = _bytes(row)
    if not pairs:
        return (whole,)
    if isinstance(row, dict) and "chosen" in row and "rejected" in row:
        return (whole - _bytes(row["rejected"]), whole - _bytes(row["chosen"]))
    return (whole, whole)


def _bytes(value: Any) -> int:
    """Bytes of all text: keys are not fed."""
    if isinstance(value, str):
        return len(value) if value.isascii() else len(value.encode("utf-8", "replace"))
    if isinstance(value, dict):
        return sum(_bytes(each) for each in value.values())
    if isinstance(value, list):
        return sum(_bytes(each) for each in value)
    return 0


def _times(file: Path, lengths: list[float]) -> float:
    """How many times as many rows the file has as were looked at."""
    looked = sum(each - TEMPLATE_TOKENS for each in lengths) * BYTES_PER_TOKEN
    # Keys and quotes are about a fifth of a file of rows.
    return max(1.0, file.stat().st_size * 0.8 / max(looked, 1.0))
