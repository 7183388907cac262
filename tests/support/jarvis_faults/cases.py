"""What is tried: a fault, at a call or a journal step, in a phase.

What a phase's calls and steps are is data here; `tests/faults/jarvis/test_clean.py` holds it to
what a run without a fault really does, so that a call that is new, or gone, is noticed.
"""

from __future__ import annotations

import random
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

CALLS: dict[str, tuple[str, str, int]] = {
    "list keys": ("GET", r"^ssh/?(\?|$)", 0),
    "add key": ("POST", r"^ssh/?(\?|$)", 0),
    "list": ("GET", r"^users/fetch/?(\?|$)", 0),
    "list again": ("GET", r"^users/fetch/?(\?|$)", 1),
    "disks": ("GET", r"^filesystem/list", 0),
    "create": ("POST", r"^templates/[\w-]+/create", 0),
    "get": ("GET", r"^users/fetch/\d+", 0),
    "get again": ("GET", r"^users/fetch/\d+", 1),
    "status": ("GET", r"^misc/status", 0),
    "resume": ("POST", r"^templates/[\w-]+/resume", 0),
    "catalogue": ("GET", r"^misc/server_meta", 0),
    "pause": ("POST", r"^misc/pause", 0),
    "destroy": ("POST", r"^misc/destroy", 0),
}
"""Method, path as a regex, and how many of them come before."""

LASTS_S = 1.0
"""How long a fault lasts that is not over after one call."""


@dataclass(frozen=True)
class Phase:
    """Where in which journey; `name` is how the table calls it.

    calls   those that a run without a fault makes there
    steps   what it writes there
    ssh     whether it also talks to the machine
    partly  there is more, which other phases try
    """

    name: str
    journey: str
    at: str
    calls: Sequence[str] = ()
    steps: Sequence[str] = ()
    ssh: bool = False
    partly: bool = False


PHASES: tuple[Phase, ...] = (
    Phase("before the launch", "train", "start", steps=("mark_intent",)),
    Phase(
        "launch",
        "train",
        "train launch",
        (
            "list",
            "disks",
            "list keys",
            "catalogue",
            "create",
            "get",
            "get again",
            "status",
        ),
        (
            "record creating, no id: laying",
            "record creating: laying",
            "save_lease",
            "record running: laying",
            "record running: started",
            "mark_launched",
            "set_phase",
        ),
    ),
    Phase("launch with a new key", "first key", "train launch", ("add key",), partly=True),
    Phase(
        "observe",
        "train",
        "train observe",
        steps=("record running: started", "mark_ended"),
        ssh=True,
        partly=True,
    ),
    Phase("fetch", "train", "train fetch", steps=("mark_pulled",), ssh=True),
    Phase(
        "release: destroy",
        "train",
        "train release",
        ("list", "destroy", "list again"),
        (
            "record running: released",
            "record ending: released",
            "record gone, no id: released",
            "mark_closed",
        ),
        ssh=True,
    ),
    Phase(
        "release: pause",
        "pause",
        "train release",
        ("list", "pause", "list again"),
        (
            "record running: released",
            "record pausing: released",
            "record paused: released",
            "mark_closed",
        ),
        ssh=True,
    ),
    Phase(
        "launch beside",
        "beside",
        "merge launch",
        ("list", "resume", "get", "get again", "status"),
        (
            "record paused: laying+released",
            "save_lease",
            "record resuming: laying+released",
            "record running: laying+released",
            "record running: released+started",
            "mark_launched",
            "set_phase",
        ),
    ),
    Phase("fetch beside", "beside", "merge fetch", steps=("mark_pulled",), ssh=True),
    Phase(
        "release beside",
        "beside",
        "merge release",
        ("list", "pause", "list again"),
        (
            "record running: released",
            "record pausing: released",
            "record paused: released",
            "mark_closed",
        ),
    ),
    Phase(
        "pull from a paused machine",
        "pull",
        "start",
        ("list", "resume", "get", "pause"),
        (
            "record resuming: released",
            "record running: released",
            "record pausing: released",
            "record paused: released",
            "mark_pulled",
        ),
        partly=True,
    ),
    Phase(
        "observe, taken away",
        "taken",
        "train observe",
        ("list", "resume", "get"),
        (
            "record paused: started",
            "record resuming: started",
            "record pausing: started",
        ),
        partly=True,
    ),
    Phase("fetch, taken away", "taken", "train fetch", ("list", "resume", "pause"), partly=True),
    Phase("release, taken away", "taken", "train release", ("list", "destroy", "list again"),
          partly=True),
    Phase("found after a crash", "found", "start", ("list",), ("save_lease",), partly=True),
    Phase("launch after a crash", "found", "train launch", ("list", "get"), partly=True),
    Phase("release after a crash", "ending", "start", ("list", "list again"), partly=True),
    Phase("stop", "stop", "start", ssh=True, partly=True),
    Phase("release after a stop", "stop", "train release", ("list", "destroy", "list again"),
          partly=True),
    Phase(
        "remove",
        "rm",
        "start",
        ("list", "destroy", "list again"),
        ("record paused: released", "record ending: released", "record gone, no id: released"),
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One thing that is tried. call: a name of `CALLS`, a journal step, or `ssh`, `machine`."""

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
        return self.how["kind"] in {"kill", "interrupt"} or not self.phase.at.endswith("launch")


_ANSWERS: dict[str, Any] = {
    "dropped": "drop",
    "done, then dropped": "drop-after",
    **{str(code): code for code in (401, 403, 404, 429, 500, 502, 503, 520, 522)},
    "not JSON": "nonsense",
    "done, then not JSON": "nonsense-after",
    "success false": "no",
    "late": ("delay", 0.6),
}
_ONLY_CHANGES = {"done, then 500": ("after", 500), "done, then 522": ("after", 522)}
_ONLY_LOOKS = {"odd row": "nulls"}
_ONCE = {"401": 401, "404": 404, "522": 522}
_SIGNALS = {
    "Ctrl-C before": ("interrupt", "before"),
    "Ctrl-C after": ("interrupt", "after"),
    "kill -9 before": ("kill", "before"),
    "kill -9 after": ("kill", "after"),
}
_SILENT = {"no ssh": "refuse", "ssh hangs": "hang", "key denied": "deny"}
_FATES: dict[str, dict[str, Any]] = {
    "fails": {"fail": "CUDA driver mismatch"},
    "never runs": {"boot": 1e6},
    "runs too late": {"boot": 520.0},
    "runs late": {"boot": 60.0},
    "no ssh": {"reach": "refuse"},
    "key denied": {"reach": "deny"},
    "no key": {"keyless": True},
}


def _of_call(phase: Phase, call: str) -> Iterator[Case]:
    changes = CALLS[call][0] != "GET"
    repeated = call in {"pause", "destroy"} or not changes
    times, lasts = (None, LASTS_S) if repeated else (1, None)
    answers = {**_ANSWERS, **(_ONLY_CHANGES if changes else {})}
    if call in {"list", "list again", "get", "get again", "catalogue"}:
        answers |= _ONLY_LOOKS
    for name, do in answers.items():
        yield Case(phase, call, name, {"kind": "call", "do": do, "times": times, "lasts": lasts})
    if repeated:
        for name, do in _ONCE.items():
            how = {"kind": "call", "do": do, "times": 1, "lasts": None}
            yield Case(phase, call, f"{name} once", how)
    for name, (kind, when) in _SIGNALS.items():
        yield Case(phase, call, name, {"kind": kind, "when": when})


def _of_step(phase: Phase, step: str) -> Iterator[Case]:
    for name, (kind, when) in _SIGNALS.items():
        if kind == "kill":
            yield Case(phase, step, name, {"kind": kind, "when": when})


def every() -> list[Case]:
    """All there are, in a fixed order."""
    found: list[Case] = []
    for phase in PHASES:
        for call in phase.calls:
            found += _of_call(phase, call)
        for step in phase.steps:
            found += _of_step(phase, step)
        if phase.ssh:
            for name, do in _SILENT.items():
                found.append(Case(phase, "ssh", name, {"kind": "ssh", "do": do, "lasts": LASTS_S}))
        if phase.name in {"launch", "launch beside"}:
            for name, fate in _FATES.items():
                if name == "never runs" and phase.journey == "beside":
                    continue  # it holds files that are wanted, and lets nobody pause it: exit 8
                found.append(Case(phase, "machine", name, {"kind": "fate", "fate": fate}))
    return found


def sample(seed: int, size: int) -> list[Case]:
    """Some of them, the same for the same seed: those whose turn it is."""
    cases = every()
    chosen = random.Random(seed).sample(cases, min(size, len(cases)))
    return sorted(chosen, key=lambda case: zlib.crc32(case.id.encode()))
