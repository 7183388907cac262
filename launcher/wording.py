"""How messages show a name the user gave, and guess what a misspelled one meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from os import PathLike, fspath


def shown(name: str | PathLike[str]) -> str:
    r"""A name on one line: what cannot be printed is escaped (a newline becomes `\n`)."""
    text = fspath(name)
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii")
        for letter in text
    )


def quoted(name: str | PathLike[str]) -> str:
    """The name as `shown`, between quotes."""
    return f"'{shown(name)}'"


def closest(word: str, options: Iterable[str]) -> str | None:
    """The option that `word` was most likely meant to be, or None when nothing is near."""
    known = sorted(set(options))
    folded = {option.lower().replace("-", "_"): option for option in known}
    found = difflib.get_close_matches(word.lower().replace("-", "_"), folded, n=1, cutoff=0.7)
    return folded[found[0]] if found else None


def did_you_mean(word: str, options: Iterable[str]) -> str:
    """`did you mean X?`, or an empty string when nothing is near."""
    near = closest(word, options)
    return f"did you mean {quoted(near)}?" if near else ""
