"""Rows of a JSON data file, one at a time, as the datasets library reads them.

A file holds one JSON value after the other (usually, not necessarily, one a line) or one array of
them. It is read in pieces: a file of any size costs the memory of its largest row.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import json
import lzma
import re
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

_PIECE = 1 << 20
_LARGEST_ROW = 64 << 20
_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder()


class _Readable(Protocol):
    def readline(self, size: int = -1, /) -> bytes: ...


@dataclass(frozen=True)
class Row:
    """One row: its number and its line, both from 1."""

    number: int
    line: int
    value: Any


class BrokenRow(Exception):
    """What cannot be read; `number` and `line` say where, the message why."""

    def __init__(self, number: int, line: int, why: str) -> None:
        super().__init__(why)
        self.number = number
        self.line = line


def is_packed_unread(path: Path) -> bool:
    """Whether the file is compressed in a way the standard library cannot open."""
    return path.suffix.lower() in {".zst", ".zip", ".lz4"}


def rows(path: Path) -> Iterator[Row]:
    """Every row of the file. Raises BrokenRow at the first that cannot be read, or OSError."""
    with _open(path) as file:
        yield from _Reader(file).rows()


def _open(path: Path) -> AbstractContextManager[_Readable]:
    match path.suffix.lower():
        case ".gz":
            return gzip.open(path, "rb")
        case ".bz2":
            return bz2.open(path, "rb")
        case ".xz":
            return lzma.open(path, "rb")
    return path.open("rb")


class _Reader:
    """A window of text over the file: `_text` from `_at` on is not taken yet."""

    def __init__(self, file: _Readable) -> None:
        self._file = file
        self._decode = codecs.getincrementaldecoder("utf-8-sig")()
        self._text = ""
        self._at = 0
        self._line = 1
        self._ended = False
        self._number = 0

    def rows(self) -> Iterator[Row]:
        in_array = self._next_sign() == "["
        if in_array:
            self._take(1)
            if self._next_sign() == "]":
                return
        while sign := self._next_sign():
            if sign == "," and self._number and not in_array:
                raise self._broken("a comma follows it, and rows stand without commas between")
            self._number += 1
            line = self._line
            value = self._value()
            yield Row(self._number, line, value)
            if in_array:
                sign = self._next_sign()
                self._take(1)
                if sign == "]":
                    return
                if sign != ",":
                    raise self._broken("a comma is missing after it" if sign else "the list ends")
        if in_array:
            raise self._broken("the list has no end")

    def _next_sign(self) -> str:
        """The next character that is not white space, not taken yet; empty at the end."""
        while True:
            self._take(_SPACE.match(self._text, self._at).end() - self._at)  # type: ignore[union-attr]
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def _take(self, count: int) -> None:
        self._line += self._text.count("\n", self._at, self._at + count)
        self._at += count

    def _value(self) -> Any:
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError as problem:
                if not self._may_go_on(problem) or not self._more():
                    raise self._broken(_phrase(problem.msg)) from None
            except RecursionError:
                raise self._broken("it is nested too deep") from None
            except ValueError:
                raise self._broken("it holds a number that is too long") from None
            else:
                count = end - self._at
                if end == len(self._text) and self._more():
                    continue  # a number may go on in the next piece
                self._take(count)
                return value

    def _may_go_on(self, problem: json.JSONDecodeError) -> bool:
        """Whether more text could mend it: only where the text read so far ends too early."""
        if self._ended:
            return False
        cut_in_a_line = not self._text.endswith("\n")
        return cut_in_a_line or problem.pos >= len(self._text.rstrip())

    def _more(self) -> bool:
        """Read on; False at the end of the file."""
        if self._ended:
            return False
        waiting = len(self._text) - self._at
        if waiting > _LARGEST_ROW:
            raise self._broken(f"it does not end within {_LARGEST_ROW >> 20} MiB")
        try:
            piece = self._file.readline(max(_PIECE, waiting))
            text = self._decode.decode(piece, final=not piece)
        except UnicodeDecodeError:
            self._number += 1 if waiting == 0 else 0
            raise self._broken("it is not UTF-8 text") from None
        except (EOFError, zlib.error, lzma.LZMAError) as problem:
            raise self._broken(f"the compressed file is damaged: {problem}") from None
        self._ended = not piece
        self._text = self._text[self._at :] + text
        self._at = 0
        return bool(piece)

    def _broken(self, why: str) -> BrokenRow:
        return BrokenRow(max(self._number, 1), self._line, why)


def _phrase(message: str) -> str:
    return (message[:1].lower() + message[1:]).removesuffix(" at")
