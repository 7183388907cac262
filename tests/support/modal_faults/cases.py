"""What is tried: a fault at an RPC, a journal step or a container, in a phase of a run.

`tests/faults/modal/test_clean.py` holds the calls and steps to what a run without a fault does.
"""

from __future__ import annotations

import random
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Phase:
    """Where: the client enters `at` when the journal says so. `calls` are RPCs made in it."""

    name: str
    at: str
    calls: Sequence[str] = ()
    steps: Sequence[str] = ()


PHASES = (
    Phase("before the launch", "start", steps=("mark_intent",)),
    Phase(
        "launch",
        "train launch",
        (
            "AppList",
            "VolumeGetOrCreate",
            "VolumePutFiles2",
            "SecretGetOrCreate",
            "AppCreate",
            "FunctionPrecreate",
            "FunctionCreate",
            "AppPublish",
            "FunctionMap",
            "AppClientDisconnect",
        ),
        (
            "record laying",
            "save_lease",
            "record asked",
            "record started",
            "mark_launched",
            "set_phase",
        ),
    ),
    Phase(
        "observe",
        "train observe",
        (
            "VolumeGetFile2",
            "FunctionGetOutputs",
            "ContainerHello",
            "ContainerHeartbeat",
            "FunctionGetInputs",
            "VolumeCommit",
            "DictGet",
            "FunctionPutOutputs",
        ),
        ("record started", "mark_ended"),
    ),
    Phase("fetch", "train fetch", ("VolumeGetFile2",), ("mark_pulled",)),
    Phase(
        "launch beside",
        "merge launch",
        ("AppList", "VolumeListFiles2", "VolumePutFiles2", "AppCreate", "FunctionMap"),
        ("record laying", "save_lease", "record asked", "record started", "mark_launched"),
    ),
    Phase(
        "release",
        "merge release",
        ("AppList", "DictPop", "VolumeRemoveFile2"),
        ("record released", "mark_closed"),
    ),
)


@dataclass(frozen=True)
class Case:
    """One thing that is tried. call: an RPC, a journal step, or `container`."""

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
        if self.how["kind"] in {"kill", "container"}:
            return True
        return "launch" not in self.phase.name and self.how.get("status") != "UNAUTHENTICATED"


_ANSWERS: dict[str, dict[str, Any]] = {
    "unavailable": {"do": "refuse", "status": "UNAVAILABLE"},
    "internal error": {"do": "refuse", "status": "INTERNAL"},
    "not accepted": {"do": "refuse", "status": "UNAUTHENTICATED"},
    "a limit": {"do": "refuse", "status": "RESOURCE_EXHAUSTED"},
    "dropped": {"do": "drop"},
    "done, then dropped": {"do": "drop-after"},
    "done, then unavailable": {"do": "refuse-after", "status": "UNAVAILABLE"},
    "late": {"do": "delay", "seconds": 0.6},
}
_CONTAINER_S = {"Container", "Function"}
_KILLS = {"kill -9 before": "before", "kill -9 after": "after"}
_CONTAINERS: dict[str, dict[str, Any]] = {
    f"{what} after {wait} s": {"kind": "container", "do": verb, "wait": wait}
    for what, verb in (("killed", "kill"), ("preempted", "preempt"))
    for wait in (0.0, 0.4, 0.8, 1.2, 1.6, 2.0, 2.5, 3.0)
}


def every() -> list[Case]:
    """All there are, in a fixed order."""
    found: list[Case] = []
    for phase in PHASES:
        for call in phase.calls:
            found += _of_call(phase, call)
        for step in phase.steps:
            for name, when in _KILLS.items():
                found.append(Case(phase, step, name, {"kind": "kill", "when": when}))
        if phase.name == "observe":
            for name, how in _CONTAINERS.items():
                found.append(Case(phase, "container", name, how))
    return found


def _of_call(phase: Phase, call: str) -> Iterator[Case]:
    for name, how in _ANSWERS.items():
        yield Case(phase, call, name, {"kind": "call", "times": 1, **how})


def sample(seed: int, size: int) -> list[Case]:
    """Some of them, the same for the same seed: those whose turn it is."""
    cases = every()
    chosen = random.Random(seed).sample(cases, min(size, len(cases)))
    return sorted(chosen, key=lambda case: zlib.crc32(case.id.encode()))
