"""How long a row is, in bytes of the text that is trained on: what that bounds, and what not.

A token of any tokenizer in use stands for at least one byte, so a row of no more bytes than
`sequence_len`, its template counted in, is never too long. The other way round there is no bound,
only experience: English runs at 4 to 5 bytes a token, code at 3, Chinese below 3. A row of more
than `SURELY` bytes a token is taken to be too long.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from launcher.preflight.figures import number
from launcher.recipe.keypath import KeyPath
from launcher.recipe.references import Fate, Kind

if TYPE_CHECKING:
    from launcher.preflight.problem import Look

SURELY = 8
"""Bytes a token that no ordinary text reaches on average."""

_TEMPLATE = 256
_TURN = 16
"""Tokens that a template adds at most: once, and with each message."""

Measure = Callable[[Mapping[str, Any]], tuple[int, int]]
"""Bytes of a row's text, and how many messages it is in."""

_USUAL = 512
"""axolotl's own sequence_len."""


@dataclass
class Counted:
    """The rows of one data set's files, as far as they were read.

    whole    whether all of them were
    maybe    rows that may be longer than sequence_len
    surely   rows that are, as far as ordinary text goes
    """

    rows: int = 0
    whole: bool = True
    maybe: int = 0
    surely: int = 0


@dataclass
class Tally:
    """What was counted, by the data set's key path."""

    sets: dict[KeyPath, Counted] = field(default_factory=dict)

    def all_rows(self, look: Look) -> int | None:
        """All rows that are trained on; None when some were not counted here."""
        wanted = {ref.key[:2] for ref in look.references if ref.kind is Kind.DATA}
        wanted = {key for key in wanted if key[0] != "test_datasets"}
        local = all(ref.fate is Fate.LOCAL for ref in look.references if ref.key[:2] in wanted)
        found = [self.sets.get(key) for key in wanted]
        if not found or not local or not all(each and each.whole for each in found):
            return None
        return sum(each.rows for each in found if each)


def limit(config: Mapping[str, Any]) -> int:
    """The longest row in tokens."""
    return int(number(config.get("sequence_len")) or _USUAL)


def measure_of(entry: Mapping[str, Any]) -> Measure:
    """How the rows of a data set are measured."""
    kind = str(entry.get("type") or "").split(":")[0]
    if kind == "chat_template":
        mapped = entry.get("message_property_mappings")
        names = mapped if isinstance(mapped, dict) else {}
        content = str(names.get("content") or entry.get("message_field_content") or "content")
        return _messages(str(entry.get("field_messages") or "messages"), content)
    if kind == "completion":
        return _fields((str(entry.get("field") or "text"),))
    return _fields(None)


def _messages(name: str, content: str) -> Measure:
    def measure(row: Mapping[str, Any]) -> tuple[int, int]:
        messages = row.get(name)
        if not isinstance(messages, list):
            return 0, 0
        said = [each.get(content) for each in messages if isinstance(each, dict)]
        return sum(_size(text) for text in said if isinstance(text, str)), len(messages)

    return measure


_NOT_SAID = {"id", "source", "url", "date", "category", "meta", "metadata"}


def _fields(names: tuple[str, ...] | None) -> Measure:
    def measure(row: Mapping[str, Any]) -> tuple[int, int]:
        chosen = row.keys() - _NOT_SAID if names is None else names
        texts = [row.get(name) for name in chosen]
        return sum(_size(text) for text in texts if isinstance(text, str)), 1

    return measure


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))


def count(counted: Counted, measured: tuple[int, int], most: int) -> None:
    """Add one row."""
    size, messages = measured
    counted.rows += 1
    counted.maybe += size + _TEMPLATE + _TURN * messages > most
    counted.surely += size > SURELY * most
