"""What the runner is told to do: the content of `plan.json`, as values.

All of it is data. The runner knows no trainer: the commands, the files that ask a program for a
checkpoint, the shape of a complete checkpoint and the patterns of metrics are given to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal

SCHEMA = 1


@dataclass(frozen=True)
class RunPath:
    """An argument that holds the absolute path of `path` inside the run directory.

    The runner replaces it by `prefix + <run directory>/<path>`: only there is that path known.
    """

    path: str
    prefix: str = ""


@dataclass(frozen=True)
class NodeFact:
    """An argument that differs between the nodes of a job, and is known only when its step starts.

    rank     the number of this node, 0 for the first
    address  of the first node, as the others reach it
    port     free on the first node, another one for each step
    """

    what: Literal["rank", "address", "port"]


Argument = str | RunPath | NodeFact


@dataclass(frozen=True)
class Newest:
    """An argument of `Step.again`: `prefix + <absolute path of the newest complete checkpoint>`."""

    prefix: str = ""


@dataclass(frozen=True)
class Step:
    """One command: an argv list, never a shell string.

    name     unique in the plan; letters, digits, dash, underscore; names its log folder
    argv     program first; a bare program name is looked up on PATH
    cwd      relative to the run directory
    env      added to the job's environment for this step; the same on every node
    stdin    a file, relative to the run directory, fed to the command; nothing when None
    timeout  this step alone; the plan's deadline holds besides
    skip_if  the step is passed over when this file (relative to the run directory) is there
    again    arguments added in another attempt in the same run directory (a container that was
             preempted, say), once a complete checkpoint is there
    """

    name: str
    argv: tuple[Argument, ...]
    cwd: str = "."
    env: Mapping[str, str | RunPath] = field(default_factory=dict)
    stdin: str | None = None
    timeout: timedelta | None = None
    skip_if: str | None = None
    again: tuple[Argument | Newest, ...] = ()


@dataclass(frozen=True)
class CheckpointRule:
    """When a checkpoint counts as complete.

    glob      directories, relative to the run directory ("output/checkpoint-*")
    requires  each entry is a list of alternative globs inside the directory; every entry needs one
              non-empty file. The last entry should name what the trainer writes last.
    """

    glob: str
    requires: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class StopRecipe:
    """How to end a step without losing its work.

    touch     files (relative to the run directory) that ask for a checkpoint
    wait      longest wait for a checkpoint completed after the touch
    interrupt longest wait after SIGINT to the whole process group, before SIGKILL
    steps     the steps this holds for; others get SIGTERM, `interrupt`, SIGKILL
    """

    touch: tuple[str, ...] = ()
    wait: timedelta = timedelta(minutes=10)
    interrupt: timedelta = timedelta(minutes=2)
    steps: tuple[str, ...] = ()


@dataclass(frozen=True)
class MetricPattern:
    """A regular expression with named groups, tried on every log line.

    Each group that matches becomes one number in `metrics.jsonl`, under the group's name.
    """

    regex: str


@dataclass(frozen=True)
class Plan:
    """Steps in order, and everything the runner needs to run, stop and record them."""

    steps: tuple[Step, ...]
    stop: StopRecipe = field(default_factory=StopRecipe)
    checkpoint: CheckpointRule | None = None
    metrics: tuple[MetricPattern, ...] = ()
    disk_reserve_bytes: int = 16 * 1024 * 1024


def _argument(value: Argument | Newest) -> Any:
    if isinstance(value, NodeFact):
        return {"node": value.what}
    if isinstance(value, Newest):
        return {"prefix": value.prefix, "newest": True}
    if isinstance(value, RunPath):
        return {"prefix": value.prefix, "path": value.path}
    return value


def _seconds(value: timedelta | None) -> float | None:
    return None if value is None else value.total_seconds()


def document(
    plan: Plan,
    *,
    job: str,
    outputs: tuple[str, ...],
    deadline: timedelta | None,
    nodes: int = 1,
) -> dict[str, Any]:
    """The JSON that the runner reads. `runner.py` says what each key means there."""
    return {
        "schema": SCHEMA,
        "job": job,
        "nodes": nodes,
        "deadline_s": _seconds(deadline),
        "disk_reserve_bytes": plan.disk_reserve_bytes,
        "outputs": list(outputs),
        "steps": [
            {
                "name": step.name,
                "argv": [_argument(value) for value in step.argv],
                "cwd": step.cwd,
                "env": {key: _argument(value) for key, value in step.env.items()},
                "stdin": step.stdin,
                "timeout_s": _seconds(step.timeout),
                "skip_if": step.skip_if,
                "again": [_argument(value) for value in step.again],
            }
            for step in plan.steps
        ],
        "stop": {
            "touch": list(plan.stop.touch),
            "wait_s": _seconds(plan.stop.wait),
            "interrupt_s": _seconds(plan.stop.interrupt),
            "steps": list(plan.stop.steps),
        },
        "checkpoint": None
        if plan.checkpoint is None
        else {
            "glob": plan.checkpoint.glob,
            "requires": [list(names) for names in plan.checkpoint.requires],
        },
        "metrics": [pattern.regex for pattern in plan.metrics],
    }
