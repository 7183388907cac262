"""What is tried: a fault at a call, a journal step or a machine, in a verb or in a phase of a run.

Verbs that look need no launch, so that a case takes seconds. Most runs are guests on a cluster that
is up; those of the `made` way have a cluster made for them, and taken down. `tests/faults/skypilot`
holds the calls and steps to what is done without a fault.
"""

from __future__ import annotations

import random
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_ANSWERS: Mapping[str, Mapping[str, Any]] = {
    "connection reset": {"do": "reset"},
    "done, then reset": {"do": "done, then reset"},
    "cut in the middle": {"do": "cut"},
    "500": {"do": "500"},
    "503": {"do": "503"},
    "login wanted": {"do": "401"},
    "a page instead": {"do": "page"},
    "done, then 502": {"do": "done, then 502"},
    "late": {"do": "late", "seconds": 1.5},
    "done, then too late": {"do": "done, then late", "seconds": 7.0},
}
_ALL = tuple(_ANSWERS)
_FEW = ("connection reset", "done, then reset", "503", "done, then too late")
_KILLS = {"kill -9 before": "before", "kill -9 after": "after"}
_SECONDS = 3.0
"""How long connections are refused."""


@dataclass(frozen=True)
class Phase:
    """Where: the client enters `at` when the journal says so, or asks that verb.

    way      `verb`, `guest` or `made`
    calls    to the API server that are made in it
    faults   which of the answers are tried there
    steps    what is written in it
    happens  what else may happen to SkyPilot meanwhile
    """

    name: str
    way: str
    at: str
    calls: Sequence[str] = ()
    faults: Sequence[str] = _ALL
    steps: Sequence[str] = ()
    happens: Sequence[str] = ()


_LOOK = ("health", "status", "answer to status")
PHASES = (
    Phase("check", "verb", "check", (*_LOOK, "enabled clouds", "answer to enabled clouds")),
    Phase("offers", "verb", "offers", ("health", "optimize", "stream", "answer to optimize")),
    Phase("leases", "verb", "leases", _LOOK),
    Phase("observe, no ssh", "verb", "observe", _LOOK, _FEW),
    Phase("before the launch", "guest", "start", steps=("mark_intent",)),
    Phase("launch", "guest", "train launch",
          ("exec", "answer to exec"),
          steps=("record asked: laying", "save_lease", "record up: laying", "record up: started",
                 "mark_launched", "set_phase"),
          happens=("the server restarts", "no more ssh")),
    Phase("observe", "guest", "train observe",
          steps=("record up: started", "mark_ended"),
          happens=("the server restarts", "no more ssh", "the login node is silent")),
    Phase("fetch", "guest", "train fetch",
          steps=("mark_pulled",), happens=("the server restarts", "no more ssh")),
    Phase("release", "guest", "train release", _LOOK, _FEW,
          steps=("record asked: released", "mark_closed"),
          happens=("the server restarts", "no more ssh")),
    Phase("launch of a cluster", "made", "train launch",
          ("validate", "launch", "answer to launch"), _FEW,
          steps=("record asked: laying", "record asked, asked: laying", "record up: laying"),
          happens=("the server restarts",)),
    Phase("launch beside", "made", "merge launch", ("exec", "answer to exec"), _FEW,
          steps=("record up: laying+started", "save_lease", "mark_launched")),
    Phase("release of a cluster", "made", "merge end",
          ("requests", "down", "answer to down", "answer to status"), _FEW,
          steps=("record ending: released", "record gone: released", "mark_closed"),
          happens=("the server restarts",)),
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One thing that is tried. call: a name of `way.CALLS`, a journal step, or what happens."""

    phase: Phase
    call: str
    fault: str
    how: dict[str, Any] = field(compare=False, hash=False)

    @property
    def triple(self) -> tuple[str, str, str]:
        return self.call, self.fault, self.phase.name

    @property
    def id(self) -> str:
        words = (self.phase.name, self.call, self.fault)
        return "-".join(re.sub(r"\W+", "_", word) for word in words)

    @property
    def harmless(self) -> bool:
        """Whether the run has to succeed all the same."""
        if not self.phase.at.endswith("launch") or self.how["kind"] == "kill":
            return True
        # A lost answer is asked for again; a login that is wanted is the user's to do.
        return self.how["kind"] != "happens" and self.fault != "login wanted"


def every() -> list[Case]:
    """All there are, in a fixed order."""
    return [case for phase in PHASES for case in _of(phase)]


def _of(phase: Phase) -> Iterator[Case]:
    for call in phase.calls:
        for name in phase.faults:
            yield Case(phase, call, name, {"kind": "call", **_ANSWERS[name]})
    for step in phase.steps:
        for name, when in _KILLS.items():
            yield Case(phase, step, name, {"kind": "kill", "when": when})
    if phase.calls:
        how = {"kind": "refuse", "seconds": _SECONDS}
        yield Case(phase, "any", f"refused for {_SECONDS:.0f} s", how)
    for what in phase.happens:
        yield Case(phase, what, "at once", {"kind": "happens", "do": what})


def sample(seed: int, sizes: Mapping[str, int]) -> list[Case]:
    """Some of each way, the same for the same seed: those whose turn it is."""
    chance, found = random.Random(seed), []
    for way, size in sizes.items():
        some = [case for case in every() if case.phase.way == way]
        chosen = chance.sample(some, min(size, len(some)))
        found += sorted(chosen, key=lambda case: zlib.crc32(case.id.encode()))
    return found
