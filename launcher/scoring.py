"""How many answers are the JSON that was wanted.

Two answers are the same when they mean the same: spaces and the order of an object's keys do not
count; the order of a list does, and so does the difference between 1, 1.0, true and "1".
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NoReturn


@dataclass(frozen=True)
class Score:
    """What became of a number of answers. `exact` are also counted in `parsed`."""

    answers: int
    parsed: int
    exact: int

    @property
    def parsed_share(self) -> float:
        """Share of the answers that are JSON; 0 where there are none."""
        return self.parsed / self.answers if self.answers else 0.0

    @property
    def exact_share(self) -> float:
        """Share of the answers that say what was expected; 0 where there are none."""
        return self.exact / self.answers if self.answers else 0.0


def canonical(text: str) -> str | None:
    """The one spelling of the JSON in `text`, or None where it holds anything but JSON.

    Not JSON either: NaN and Infinity, which Python would read, and an object with a key twice.
    """
    try:
        value = json.loads(text, parse_constant=_refuse, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        return None
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def score(pairs: Iterable[tuple[str, str]]) -> Score:
    """Compare pairs of (expected JSON, answer). An expected text that is not JSON: ValueError."""
    answers = parsed = exact = 0
    for expected, answer in pairs:
        wanted = canonical(expected)
        if wanted is None:
            raise ValueError(f"the expected text is not JSON: {expected[:80]!r}")
        got = canonical(answer)
        answers += 1
        parsed += got is not None
        exact += got == wanted
    return Score(answers=answers, parsed=parsed, exact=exact)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is given twice")
    return found
