"""What goes wrong on demand between a client and the control plane."""

from __future__ import annotations

import asyncio
import itertools
import re
from dataclasses import dataclass, field
from typing import Any, Literal

from grpclib.const import Status
from grpclib.exceptions import GRPCError

Do = Literal["refuse", "refuse-after", "drop", "drop-after", "delay"]
"""What a fault does to an RPC:

refuse        answers with `status`; nothing is done
refuse-after  does it, and answers with `status`
drop          breaks the stream before anything is done
drop-after    does it, and breaks the stream without an answer
delay         waits `seconds`, then does it
"""


@dataclass
class Fault:
    """A rule for RPCs whose name matches."""

    number: int
    name: re.Pattern[str]
    do: Do
    status: str = "UNAVAILABLE"
    words: str = "on demand"
    seconds: float = 0.0
    times: int | None = 1
    spare: int = 0
    seen: int = 0
    hits: int = 0

    def takes(self, name: str) -> bool:
        """Whether it strikes this call; counts it."""
        if not self.name.fullmatch(name):
            return False
        self.seen += 1
        if self.seen <= self.spare or (self.times is not None and self.hits >= self.times):
            return False
        self.hits += 1
        return True

    async def before(self, stream: Any) -> None:
        """What it does before the call is done."""
        if self.do == "delay":
            await asyncio.sleep(self.seconds)
        if self.do == "refuse":
            raise self._refusal()
        if self.do == "drop":
            await _broken(stream)

    async def after(self, stream: Any) -> None:
        """What it does once the call is done."""
        if self.do == "refuse-after":
            raise self._refusal()
        if self.do == "drop-after":
            await _broken(stream)

    def _refusal(self) -> GRPCError:
        return GRPCError(Status[self.status], self.words)


async def _broken(stream: Any) -> None:
    await stream.reset()
    raise asyncio.CancelledError


@dataclass
class Faults:
    """The faults in force; the first that strikes is the one."""

    rules: list[Fault] = field(default_factory=list)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    def add(self, name: str, do: Do, **more: Any) -> int:
        """A new rule; its number."""
        rule = Fault(next(self._numbers), re.compile(name), do, **more)
        self.rules.append(rule)
        return rule.number

    def forget(self) -> None:
        """Take all back."""
        self.rules.clear()

    def hits(self, number: int) -> int:
        """How often a rule has struck."""
        return sum(rule.hits for rule in self.rules if rule.number == number)

    def strike(self, name: str) -> Fault | None:
        """What goes wrong with this call; None: nothing."""
        return next((rule for rule in self.rules if rule.takes(name)), None)
