"""What goes wrong on demand between a client and the provider."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field
from typing import Any, Literal

Trick = Literal["drop", "drop-after", "nonsense", "nonsense-after", "nulls", "no"]
Do = int | Trick | tuple[Literal["delay", "after"], float]
"""What a fault does to a call:

an int               answers with this status; nothing is done
"drop"               hangs up before anything is done
"drop-after"         does it, and hangs up without an answer
"nonsense"           answers 200 with something that is not JSON; nothing is done
"nonsense-after"     does it, and answers so
"nulls"              does it; rows of the answer have null where a client expects a word
"no"                 answers 200 with `success: false`; nothing is done
("delay", seconds)   waits so many real seconds, then does it
("after", status)    does it, and answers with this status
"""


@dataclass
class Fault:
    """A rule for calls whose method and path match."""

    number: int
    method: str
    path: re.Pattern[str]
    do: Do
    times: int | None
    after: int
    hits: int = 0
    seen: int = 0

    def takes(self, method: str, path: str) -> bool:
        """Whether it strikes this call; counts it."""
        if self.method not in {"*", method} or not self.path.search(path):
            return False
        self.seen += 1
        if self.seen <= self.after or (self.times is not None and self.hits >= self.times):
            return False
        self.hits += 1
        return True


@dataclass
class Faults:
    """The faults in force; the first that strikes is the one."""

    rules: list[Fault] = field(default_factory=list)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    def add(self, method: str, path: str, do: Do, times: int | None, after: int) -> int:
        """A new rule; its number."""
        rule = Fault(next(self._numbers), method, re.compile(path), do, times, after)
        self.rules.append(rule)
        return rule.number

    def forget(self, number: int | None = None) -> None:
        """Take one rule back, or all."""
        self.rules = [rule for rule in self.rules if number is not None and rule.number != number]

    def hits(self, number: int) -> int:
        """How often a rule has struck."""
        return sum(rule.hits for rule in self.rules if rule.number == number)

    def strike(self, method: str, path: str) -> Do | None:
        """What goes wrong with this call; None: nothing."""
        return next((rule.do for rule in self.rules if rule.takes(method, path)), None)


def with_nulls(answer: Any) -> Any:
    """The answer as the live service sometimes gives it: a row that lacks what every other has."""
    if not isinstance(answer, dict):
        return answer
    odd = dict(answer)
    if rows := odd.get("server_meta"):
        odd["server_meta"] = [*rows, rows[0] | {"region": None}]
    if rows := odd.get("instances"):
        odd["instances"] = [*rows, rows[0] | {"framework": None, "machine_id": 1}]
    if isinstance(row := odd.get("instance"), dict):
        odd["instance"] = row | {"framework": None}
    return odd
