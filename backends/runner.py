r"""The runner: runs a job's steps in a run directory and leaves a truthful record, anywhere.

One file on the standard library, for Python 3.9 and later and for PyPy. It knows no trainer: what
to run, what to touch and what to wait for is in `plan.json`. docs/ARCHITECTURE.md has the formats
of the files it writes.

    runner.py start RUNDIR [--attempt]     detached; returns once the supervisor holds the lock
    runner.py run RUNDIR [--attempt]       in the foreground, the log copied to standard output
    runner.py status RUNDIR                what the state says, checked against the lock
    runner.py stop RUNDIR [--grace S] [--now]
    runner.py checkpoint RUNDIR            ask for one and go on

All but `run` print one line of JSON: the state, with `alive` added. `start` and `run` leave a run
alone that lives or has ended; with --attempt one that has ended, or was lost, is run once more in
its directory. `run` exits with 0 (succeeded), the code of the step that failed, 124 (expired),
130 (stopped), 70 (the runner itself failed) or 75 (nothing was started); all with 2 for a command
line that cannot be.

plan.json
    job, deadline_s, disk_reserve_bytes
    nodes        1; of more, each has its own run directory and runner, and `team.py` beside it
    outputs      globs of files for the manifest: `**` crosses folders, a folder stands for all
                 beneath it, names with a leading dot count, a glob behind `!` takes files out
    steps        name, argv, cwd, env, stdin, timeout_s, skip_if, again; an argument or a variable
                 is a string, or {"prefix", "path"}: prefix + <run directory>/<path>; an argument
                 may be {"node": "rank" | "address" | "port"}, see `team.py`; `again` is
                 added to argv in a later attempt that finds a complete checkpoint, and in it
                 {"prefix", "newest"} is prefix + <the newest of them>
    stop         touch, wait_s, interrupt_s, steps
    checkpoint   glob, requires
    metrics      regular expressions; each named group that matches a number is a metric

How a step ends when it must (a request, a signal, a time-out, the deadline):
    named in stop.steps   touch, wait for a checkpoint completed after that (wait_s at most),
                          SIGINT to the process group, wait for the group (interrupt_s), SIGKILL
    any other             SIGTERM to the group, interrupt_s, SIGKILL
A request's grace bounds the whole: of a short one at least half, and interrupt_s if it has that
much, is kept for the time after SIGINT. No grace at all is SIGKILL at once.

The deadline counts the time that the run is worked on, over all its attempts: the time between two
attempts does not count, the time a machine sleeps does (where its clock tells).

Of several nodes the first one decides: its state and its log tell of all, with the node's name in
front of each line. A step begins on all nodes together. Where one node fails, is gone, or is ended
by a signal, all end, without waiting for a checkpoint; the others exit with 0, since what started
them might otherwise end the first one before its last word.

A line that ends in a carriage return is a progress bar's: the newest is logged, but at most one a
second, and what a terminal would show in the end always is. A line longer than 64 KiB is cut into
several; bytes that are no UTF-8 are written as \xNN.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import errno
import fcntl
import glob
import hashlib
import importlib.util
import json
import math
import os
import random
import re
import select
import selectors
import signal
import socket
import stat
import subprocess
import sys
import time
import traceback
from dataclasses import dataclass, field
from typing import (
    Any,
    Callable,
    Deque,
    Dict,
    Iterator,
    List,
    NoReturn,
    Optional,
    Pattern,
    Set,
    Tuple,
)

SCHEMA = 1
ENDED = ("succeeded", "failed", "stopped", "expired")
OWN_FOLDERS = ("logs", "metrics", "control")
OWN_FILES = (
    "plan.json",
    "state.json",
    "manifest.json",
    "lock",
    "runner.py",
    "team.py",
    "runner.err",
)
TEMPORARY = (".reserve", ".state.json.tmp", ".manifest.json.tmp")

SEGMENT_BYTES = 1 << 20
LINE_BYTES = 64 << 10
PATTERN_CHARS = 4096  # a metric stands at the front of a line; a regex may be slow on a long one
PENDING_BYTES = 256 << 10  # of log lines kept in memory while the disk takes none
COPY_BYTES = 4 << 20
TICK_S = 0.2
LOOK_S = 0.5  # between the two looks that must find a checkpoint unchanged
LEFTOVER_S = 5.0  # for what a step left behind, between SIGTERM and SIGKILL
KILLED_S = 10.0  # how long a killed process may take to go (it may hang in the kernel)
DRAIN_S = 2.0  # for a pipe that somebody out of reach still holds
TOGETHER_S = 10.0  # between the failures of nodes that fail together, on busy machines

USAGE, INTERNAL, NOT_STARTED = 2, 70, 75
NOT_FOUND, NOT_EXECUTABLE = 127, 126

State = Dict[str, Any]


def seconds_from_env(name: str, default: float) -> float:
    """A number of seconds that the environment may set; the default when it is no number."""
    try:
        value = float(os.environ.get(name, default))
    except ValueError:
        return default
    return value if math.isfinite(value) and value >= 0 else default


HEARTBEAT_S = seconds_from_env("FTLAUNCH_HEARTBEAT_S", 5.0)
PROGRESS_S = seconds_from_env("FTLAUNCH_PROGRESS_S", 1.0)
SIGNAL_GRACE_S = seconds_from_env("FTLAUNCH_SIGNAL_GRACE_S", 25.0)  # containers kill after 30 s


class PlanError(Exception):
    """The plan cannot be run; the message is a sentence."""


# ── time, text, files ─────────────────────────────────────────────────────────────────────────────


def clock() -> float:
    """Seconds that never go back and, where the machine tells, count the time it was asleep."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def stamp(at: Optional[float] = None) -> str:
    """A UTC time with milliseconds."""
    at = time.time() if at is None else at
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at)) + ".%03dZ" % int(at % 1 * 1000)


def native(text: str) -> str:
    """A name from JSON (UTF-8, odd bytes as surrogates) as this interpreter names files.

    The two differ where the locale is not UTF-8: PyPy then names files in ASCII.
    """
    return os.fsdecode(text.encode("utf-8", "surrogateescape"))


def given_name(name: str) -> str:
    """A name from the command line; PyPy reads that as UTF-8 whatever the locale."""
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return native(name)
    return name


def portable(name: str) -> str:
    """The inverse of `native`."""
    return os.fsencode(name).decode("utf-8", "surrogateescape")


def write_atomic(path: str, content: bytes, *, sync: bool, temporary: str = "") -> None:
    """Replace a file by rename, so that a reader sees the old one or the new one, whole."""
    temporary = temporary or os.path.join(os.path.dirname(path), ".%s.tmp" % os.path.basename(path))
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            if sync:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def read_object(path: str) -> Optional[State]:
    """A JSON object from a file; None when there is none."""
    try:
        with open(path, "rb") as file:
            found = json.loads(file.read())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def encoded(value: Any) -> bytes:
    """JSON in ASCII: a lone surrogate, which stands for an odd byte in a name, survives it."""
    return json.dumps(value, ensure_ascii=True).encode("ascii")


def tail_of(text: str) -> List[Any]:
    """A sort key that puts checkpoint-10 after checkpoint-9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", text)]


def disk_free(path: str) -> Optional[int]:
    """Bytes that may still be written there."""
    try:
        seen = os.statvfs(path)
    except OSError:
        return None
    return seen.f_bavail * seen.f_frsize


# ── the plan ──────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Step:
    """One command; `argv` and `env` are resolved, but for what only its start will tell."""

    name: str
    argv: Tuple[Any, ...]
    cwd: str
    env: Dict[str, str]
    stdin: Optional[str]
    timeout_s: Optional[float]
    skip_if: Optional[str]
    again: Tuple[Any, ...] = ()


@dataclass(frozen=True)
class Recipe:
    """How a step is ended without losing its work."""

    touch: Tuple[str, ...] = ()
    wait_s: float = 600.0
    interrupt_s: float = 120.0
    steps: Tuple[str, ...] = ()


@dataclass(frozen=True)
class Rule:
    """When a checkpoint counts as complete."""

    glob: str
    requires: Tuple[Tuple[str, ...], ...]


@dataclass(frozen=True)
class Plan:
    """What `plan.json` says."""

    job: str
    steps: Tuple[Step, ...]
    outputs: Tuple[str, ...]
    deadline_s: Optional[float] = None
    reserve_bytes: int = 0
    stop: Recipe = field(default_factory=Recipe)
    checkpoint: Optional[Rule] = None
    metrics: Tuple[Pattern[str], ...] = ()
    nodes: int = 1


def read_plan(rundir: str) -> Plan:
    """The plan of a run directory. Raises PlanError."""
    try:
        with open(os.path.join(rundir, "plan.json"), "rb") as file:
            raw = json.loads(file.read())
    except (OSError, ValueError) as error:
        raise PlanError("plan.json cannot be read: %s" % error) from error
    try:
        return parse_plan(raw, rundir)
    except (KeyError, TypeError, ValueError, AttributeError, re.error) as error:
        raise PlanError(
            "plan.json is not a plan: %s: %s" % (type(error).__name__, error)
        ) from error


def parse_plan(raw: Any, rundir: str) -> Plan:
    """A plan from its JSON; raises whatever a wrong shape makes it raise."""
    if raw["schema"] != SCHEMA:
        raise ValueError("schema %r is not %d, which this runner reads" % (raw["schema"], SCHEMA))
    steps = tuple(parse_step(step, rundir) for step in raw["steps"])
    if len({step.name for step in steps}) != len(steps):
        raise ValueError("two steps have one name")
    metrics = tuple(re.compile(pattern) for pattern in raw.get("metrics") or ())
    if any(name in pattern.groupindex for pattern in metrics for name in ("seq", "time")):
        raise ValueError("a metric cannot be called seq or time")
    nodes = int(raw.get("nodes") or 1)
    if nodes > 1 and any(step.skip_if for step in steps):
        raise ValueError("a step of several nodes cannot be left out")
    if nodes == 1 and any(isinstance(word, dict) for step in steps for word in step.argv):
        raise ValueError("a command of one node cannot ask which node it is on")
    stop, rule = raw.get("stop") or {}, raw.get("checkpoint")
    return Plan(
        job=str(raw.get("job", "")),
        steps=steps,
        outputs=strings(raw.get("outputs")),
        deadline_s=limit(raw.get("deadline_s")),
        reserve_bytes=int(raw.get("disk_reserve_bytes") or 0),
        stop=Recipe(
            touch=tuple(os.path.join(rundir, native(path)) for path in strings(stop.get("touch"))),
            wait_s=limit(stop.get("wait_s"), 600.0) or 0.0,
            interrupt_s=limit(stop.get("interrupt_s"), 120.0) or 0.0,
            steps=strings(stop.get("steps")),
        ),
        checkpoint=None
        if rule is None
        else Rule(rule["glob"], tuple(strings(names) for names in rule["requires"])),
        metrics=metrics,
        nodes=nodes,
    )


def parse_step(raw: Any, rundir: str) -> Step:
    """One step of a plan."""
    name = raw["name"]
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise ValueError("%r cannot be a step's name" % name)
    argv = tuple(word(value, rundir) for value in raw["argv"])
    if not argv:
        raise ValueError("step %s has no command" % name)

    def inside(key: str) -> Optional[str]:
        value = raw.get(key)
        return None if value is None else os.path.join(rundir, native(value))

    return Step(
        name=name,
        argv=argv,
        cwd=inside("cwd") or rundir,
        env={native(key): argument(value, rundir) for key, value in (raw.get("env") or {}).items()},
        stdin=inside("stdin"),
        timeout_s=limit(raw.get("timeout_s")),
        skip_if=inside("skip_if"),
        again=tuple(raw.get("again") or ()),
    )


def word(value: Any, rundir: str) -> Any:
    """A word of a command; what only its start will tell stays as it is."""
    if isinstance(value, dict) and "node" in value:
        if value["node"] not in ("rank", "address", "port"):
            raise ValueError("%r is nothing that a node knows" % (value["node"],))
        return value
    return argument(value, rundir)


def argument(value: Any, rundir: str) -> str:
    """An argument or a variable: a string, or a place in the run directory behind a prefix."""
    if isinstance(value, str):
        return native(value)
    return native(value["prefix"]) + os.path.join(rundir, native(value["path"]))


def strings(value: Any) -> Tuple[str, ...]:
    """A list of strings."""
    found = tuple(value or ())
    if isinstance(value, str) or not all(isinstance(item, str) for item in found):
        raise TypeError("%r is not a list of strings" % (value,))
    return found


def limit(value: Any, default: Optional[float] = None) -> Optional[float]:
    """Seconds, at least 0; the default when nothing is said."""
    if value is None:
        return default
    number = float(value)
    if not number >= 0:
        raise ValueError("%r is not a time span" % (value,))
    return number


# ── the lock ──────────────────────────────────────────────────────────────────────────────────────


def flock(descriptor: int, how: int) -> bool:
    """Whether the lock could be had at once."""
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        raise
    return True


def take_lock(rundir: str) -> Optional[int]:
    """The descriptor that holds the lock from now on; None when a living runner has it.

    Whoever looks holds a shared lock for a moment, which must not be taken for a living runner:
    only an exclusive one shuts out a shared one.
    """
    descriptor = os.open(os.path.join(rundir, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    while not flock(descriptor, fcntl.LOCK_EX):
        if not flock(descriptor, fcntl.LOCK_SH):
            os.close(descriptor)
            return None
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        time.sleep(random.uniform(0.001, 0.02))  # noqa: S311
    return descriptor


def is_locked(rundir: str) -> bool:
    """Whether a runner lives here. The kernel lets go of its lock however it dies."""
    try:
        descriptor = os.open(os.path.join(rundir, "lock"), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return not flock(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


# ── processes ─────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Process:
    """A process as /proc shows it; `started` tells it from a later one with the same id."""

    pid: int
    dead: bool
    parent: int
    group: int
    started: str


def processes() -> Optional[List[Process]]:
    """Every process of this machine; None where there is no /proc."""
    try:
        names = [name for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return None
    found = [process(int(name)) for name in names]
    return [one for one in found if one is not None] if names else None


def process(pid: int) -> Optional[Process]:
    """One process by /proc; None when it is gone, or there is no /proc."""
    try:
        with open("/proc/%d/stat" % pid, "rb") as file:
            content = file.read().decode("ascii", "replace")
    except OSError:
        return None
    fields = content.rpartition(")")[2].split()  # a name may hold spaces and brackets
    return Process(pid, fields[0] in "ZX", int(fields[1]), int(fields[2]), fields[19])


def started_at(pid: int) -> Optional[str]:
    """When a process was started, in words that only need to be compared; None when it is gone."""
    seen = process(pid)
    if seen is not None:
        return seen.started
    if os.path.isdir("/proc/self"):
        return None
    return said(["ps", "-o", "lstart=", "-p", str(pid)])


def said(argv: List[str]) -> Optional[str]:
    """What a small program of the system answers; None when it does not."""
    try:
        done = subprocess.run(argv, capture_output=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode("ascii", "replace").strip() or None


def boot_id() -> Optional[str]:
    """Another one after each start of the machine; None when it does not tell."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return said(["sysctl", "-n", "kern.bootsessionuuid"])


def group_lives(group: int) -> bool:
    """Whether anybody who is not yet dead is in a process group."""
    try:
        os.killpg(group, 0)
    except OSError:  # nobody there, or nobody whom we may signal (on macOS: only dead ones)
        return False
    everybody = processes()
    return everybody is None or any(one.group == group and not one.dead for one in everybody)


def signal_group(group: int, what: int) -> None:
    """Send a signal to a whole process group, if it is there."""
    with contextlib.suppress(OSError):
        os.killpg(group, what)


def carries(pid: int, mark: str) -> bool:
    """Whether a process was started with our mark in its environment."""
    try:
        with open("/proc/%d/environ" % pid, "rb") as file:
            return b"FTLAUNCH_RUN_MARK=" + mark.encode() in file.read().split(b"\0")
    except OSError:
        return False


def become_subreaper() -> None:
    """On Linux: whoever loses its parent below us becomes our child, and can be ended."""
    with contextlib.suppress(Exception):
        import ctypes

        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER


def exit_code(status: int) -> int:
    """A wait status as a shell would say it: 128 + n for signal n."""
    if os.WIFSIGNALED(status):
        return 128 + os.WTERMSIG(status)
    return os.WEXITSTATUS(status)


def code_in_words(code: int) -> str:
    """`exited with code 3`, `was killed by SIGKILL`."""
    with contextlib.suppress(ValueError):
        if code > 128:
            return "was killed by %s" % signal.Signals(code - 128).name
    return "exited with code %d" % code


# ── segments, log, metrics ────────────────────────────────────────────────────────────────────────


class Segments:
    """A chain of append-only files of at most 1 MiB, which a full disk delays but never breaks.

    What the disk does not take waits in memory, up to PENDING_BYTES; a line that finds no room
    there either is lost, and `add` says so.
    """

    def __init__(self, folder: str, suffix: str) -> None:
        self.folder = folder
        self.suffix = suffix
        self.count = last_segment(folder, suffix)
        self._descriptor: Optional[int] = None
        self._size = SEGMENT_BYTES  # so that the first line opens a new segment
        self._waiting: Deque[bytes] = collections.deque()
        self._waiting_bytes = 0
        self._stuck = False

    def add(self, line: bytes) -> bool:
        """Take a line with its line end; False when it is lost."""
        if self._stuck and self._waiting_bytes + len(line) > PENDING_BYTES:
            return False
        self._waiting.append(line)
        self._waiting_bytes += len(line)
        return True

    def flush(self) -> None:
        """Write what waits, as far as the disk takes it."""
        self._stuck = False
        try:
            while self._waiting:
                self._write_some()
        except OSError:
            self._stuck = True

    def _write_some(self) -> None:
        room, batch = SEGMENT_BYTES - self._size, []
        for line in self._waiting:
            if len(line) > room:
                break
            room -= len(line)
            batch.append(line)
        if not batch or self._descriptor is None:
            self._open_next()
            return
        written = os.write(self._descriptor, b"".join(batch))
        if not written:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._size += written
        self._waiting_bytes -= written
        while written and written >= len(self._waiting[0]):
            written -= len(self._waiting.popleft())
        if written:  # the disk filled up inside a line: its rest must follow in this segment
            self._waiting[0] = self._waiting[0][written:]

    def _open_next(self) -> None:
        os.makedirs(self.folder, exist_ok=True)
        path = os.path.join(self.folder, "%06d%s" % (self.count + 1, self.suffix))
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self.close()
        self._descriptor, self._size = opened, 0
        self.count += 1

    def close(self) -> None:
        """Let go of the file; what waits is kept."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    @property
    def lines_waiting(self) -> int:
        """Lines that the disk has not taken."""
        return len(self._waiting)


def last_segment(folder: str, suffix: str) -> int:
    """The number of the newest segment in a folder; 0 when there is none."""
    try:
        names = os.listdir(folder)
    except OSError:
        return 0
    stems = [name[: -len(suffix)] for name in names if name.endswith(suffix)]
    return max([int(stem) for stem in stems if stem.isdigit()], default=0)


def mend_segment(folder: str, suffix: str) -> Optional[bytes]:
    """The last line of the newest segment; one that was torn by a kill gets its line end."""
    path = os.path.join(folder, "%06d%s" % (last_segment(folder, suffix), suffix))
    try:
        with open(path, "r+b") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 4 * LINE_BYTES - 100))
            content = file.read()
            if content and not content.endswith(b"\n"):
                file.write(b"\n")
    except OSError:
        return None
    lines = content.rstrip(b"\n").split(b"\n")
    return lines[-1] if content else None


def last_sequence(rundir: str) -> int:
    """The highest sequence number in a run directory's log, also if its line was torn."""
    highest = 0
    folder = os.path.join(rundir, "logs")
    with contextlib.suppress(OSError):
        for step in os.listdir(folder):
            line = mend_segment(os.path.join(folder, step), ".log")
            number = (line or b"").partition(b" ")[0]
            if len(number) == 10 and number.isdigit():
                highest = max(highest, int(number))
    return highest


class Lines:
    """Makes lines of a stream of bytes. `emit` gets each, without its line end."""

    def __init__(self, emit: Callable[[bytes], None], now: Callable[[], float] = clock) -> None:
        self._emit = emit
        self._now = now
        self._rest = b""
        self._held: Optional[bytes] = None  # a progress bar's newest state, not yet logged
        self._progress_at = -math.inf

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the stream."""
        whole, newline, self._rest = (self._rest + data).rpartition(b"\n")
        if newline:
            for raw in whole.split(b"\n"):
                self._line(raw)
        if b"\r" in self._rest[:-1]:  # one at the very end may be half of a line end
            *updates, self._rest = self._split_updates(self._rest)
            for update in updates:
                self._update(update)
        while len(self._rest) > LINE_BYTES:
            self._rest = self._cut(self._rest)

    @staticmethod
    def _split_updates(rest: bytes) -> List[bytes]:
        if rest.endswith(b"\r"):
            parts = rest[:-1].split(b"\r")
            return [*parts[:-1], parts[-1] + b"\r"]
        return rest.split(b"\r")

    def _line(self, raw: bytes) -> None:
        if raw.endswith(b"\r"):
            raw = raw[:-1]
        *updates, text = raw.split(b"\r")
        for update in updates:
            self._update(update)
        if not text.strip() and self._held is not None:
            text = self._held
        self._held = None
        while len(text) > LINE_BYTES:
            text = self._cut(text)
        self._emit(text)

    def _cut(self, text: bytes) -> bytes:
        at = LINE_BYTES
        while at > LINE_BYTES - 4 and text[at] & 0xC0 == 0x80:  # not inside a character
            at -= 1
        self._emit(text[:at])
        return text[at:]

    def _update(self, text: bytes) -> None:
        if text.strip():
            self._held = text[:LINE_BYTES]
            self.tick()

    def tick(self) -> None:
        """Log a progress bar's newest state when it is time."""
        if self._held is not None and self._now() - self._progress_at >= PROGRESS_S:
            self._progress_at = self._now()
            held, self._held = self._held, None
            self._emit(held)

    def end(self) -> None:
        """The stream is over: log what waits."""
        rest, self._rest = self._rest, b""
        if rest.strip() or self._held is not None:
            self._line(rest)


def number(text: str) -> Any:
    """A metric's number; "nan", "inf", "-inf", for which JSON has no number; else None."""
    try:
        if len(text) < 18:
            with contextlib.suppress(ValueError):
                return int(text)
        value = float(text.replace(",", ""))
    except ValueError:
        return None
    return value if math.isfinite(value) else str(value)


class Log:
    """A job's log: numbers the lines of its steps, and finds the metrics in them."""

    def __init__(
        self, rundir: str, patterns: Tuple[Pattern[str], ...], copy: Callable[[bytes], None]
    ) -> None:
        self._rundir = rundir
        self._patterns = patterns
        self._copy = copy
        self._segments: Optional[Segments] = None
        self._metrics = Segments(os.path.join(rundir, "metrics"), ".jsonl")
        self._gone = 0  # lines that a step which has ended could not write
        self._lost = 0
        self.sequence = 0
        self.node = ""  # in front of each line, where there are several
        self.last_metrics: Dict[str, Any] = {}

    def go_on_from(self, sequence: int) -> None:
        """Number the next line one higher than this."""
        self.sequence = sequence

    def open(self, step: str) -> None:
        """The next lines are this step's."""
        self.close()
        self._segments = Segments(os.path.join(self._rundir, "logs", step), ".log")

    def close(self) -> None:
        """Write what waits, and give up on what the disk does not take."""
        if self._segments is not None:
            self._segments.flush()
            self._segments.close()
            self._gone += self._segments.lines_waiting
            self._segments = None

    def line(self, raw: bytes) -> None:
        """Number and keep a line, and look for metrics in it."""
        text = raw.decode("utf-8", "backslashreplace")
        at = stamp()
        if self.keep(text, at, self.node) and self._patterns:
            self._find_metrics(text[:PATTERN_CHARS], at)

    def keep(self, text: str, at: str, node: str = "") -> bool:
        """Number and keep a line; False between two steps."""
        if self._segments is None:
            return False
        self.sequence += 1
        shown = "[%s] %s" % (node, text) if node else text
        line = ("%010d %s %s\n" % (self.sequence, at, shown)).encode("utf-8", "backslashreplace")
        if not self._segments.add(line):
            self._lost += 1
        self._copy(line)
        return True

    def _find_metrics(self, text: str, at: str) -> None:
        found: Dict[str, Any] = {}
        for pattern in self._patterns:
            match = pattern.search(text)
            for name, group in match.groupdict().items() if match else ():
                value = None if group is None else number(group)
                if value is not None:
                    found[name] = value
        if found:
            self.last_metrics.update(found)
            self._metrics.add(encoded({"seq": self.sequence, "time": at, **found}) + b"\n")

    def flush(self) -> None:
        """Write what waits, as far as the disk takes it."""
        if self._segments is not None:
            self._segments.flush()
        self._metrics.flush()

    @property
    def segments(self) -> int:
        """The number of segments of the open step's log."""
        return 0 if self._segments is None else self._segments.count

    @property
    def metrics_segments(self) -> int:
        """The number of segments of the metrics."""
        return self._metrics.count

    @property
    def waiting(self) -> bool:
        """Whether lines of the open step were not taken by the disk."""
        return self._segments is not None and bool(self._segments.lines_waiting)

    @property
    def lost(self) -> int:
        """Lines that have a number but were not written."""
        return self._lost + self._gone


class Copy:
    """Copies the log to a descriptor without ever waiting for its reader."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._waiting = bytearray()
        self._left_out = 0
        self._broken = False

    def __call__(self, line: bytes) -> None:
        """Take a line; one for which a slow reader leaves no room is counted instead."""
        if self._broken:
            return
        if len(self._waiting) + len(line) > COPY_BYTES:
            self._left_out += 1
            return
        if self._left_out:
            told = "[runner] %d lines are not shown: whoever reads this is slow" % self._left_out
            self._waiting += told.encode() + b"\n"
            self._left_out = 0
        self._waiting += line

    @property
    def wants(self) -> bool:
        """Whether there is something to write."""
        return bool(self._waiting)

    def write(self) -> None:
        """Write while the reader takes it, in pieces that a pipe that is ready takes whole."""
        piece = getattr(select, "PIPE_BUF", 512)
        try:
            for _ in range(64):
                if not self._waiting or not select.select([], [self.descriptor], [], 0)[1]:
                    return
                del self._waiting[: os.write(self.descriptor, self._waiting[:piece])]
        except OSError:  # the reader went away; the job does not care
            self._broken = True
            self._waiting.clear()


# ── checkpoints ───────────────────────────────────────────────────────────────────────────────────

Look = Dict[str, Tuple[Tuple[str, int, int], ...]]


class Checkpoints:
    """What the rule finds. Complete: all that is required is there, and two looks saw the same."""

    def __init__(self, rundir: str, rule: Optional[Rule]) -> None:
        self._rundir = rundir
        self._rule = rule
        self._before: Look = {}
        self._looked_at = -math.inf
        self.unsettled = False  # whether another look may soon tell more
        self.complete: Look = {}
        self.rows: List[State] = []

    def look(self, now: float, *, final: bool = False) -> bool:
        """Look again; True when something changed. `final`: nobody can change anything more."""
        if self._rule is None or (now - self._looked_at < LOOK_S and not final):
            return False
        self._looked_at = now
        seen = self._see()
        ready = self.ready(seen)
        self.complete = {
            path: files for path, files in ready.items() if final or self._before.get(path) == files
        }
        self.unsettled = seen != self._before or len(ready) > len(self.complete)
        self._before = seen
        rows = [
            {
                "path": portable(path),
                "complete": path in self.complete,
                "bytes": sum(size for _, size, _ in seen[path]),
            }
            for path in sorted(seen, key=tail_of)
        ]
        changed, self.rows = rows != self.rows, rows
        return changed

    def now_ready(self) -> Look:
        """Those that have all that is required at this moment, changing or not."""
        return {} if self._rule is None else self.ready(self._see())

    def ready(self, seen: Look) -> Look:
        """Those of a look that have all that is required."""
        return {path: files for path, files in seen.items() if self._meets(path)}

    def _see(self) -> Look:
        assert self._rule is not None
        pattern = os.path.join(glob.escape(self._rundir), native(self._rule.glob))
        return {
            os.path.relpath(path, self._rundir): tuple(sorted(files_under(path)))
            for path in glob.glob(pattern, recursive=True)
            if os.path.isdir(path)
        }

    def _meets(self, path: str) -> bool:
        assert self._rule is not None
        base = os.path.join(glob.escape(os.path.join(self._rundir, path)), "")
        return all(
            any(has_content(found) for name in names for found in glob.glob(base + native(name)))
            for names in self._rule.requires
        )


def files_under(folder: str) -> Iterator[Tuple[str, int, int]]:
    """Every file below a folder: its path, its size, when it was last written."""
    for parent, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(parent, name)
            with contextlib.suppress(OSError):
                seen = os.stat(path)
                yield path, seen.st_size, seen.st_mtime_ns


def has_content(path: str) -> bool:
    """Whether there is a file that is not empty."""
    try:
        seen = os.stat(path)
    except OSError:
        return False
    return stat.S_ISREG(seen.st_mode) and seen.st_size > 0


# ── the disk reserve and the manifest ─────────────────────────────────────────────────────────────


def reserve(path: str, size: int) -> None:
    """Really take room on the disk, to be given back when the verdict must be written.

    Raises OSError, having taken nothing, when there is not that much.
    """
    free = disk_free(os.path.dirname(path))
    if free is not None and free < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    try:
        with open(path, "wb") as file:
            if not allocated(file.fileno(), size):
                block = os.urandom(min(size, 1 << 20))  # zeros would take no room on some disks
                for at in range(0, size, len(block)):
                    file.write(block[: size - at])
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(path)
        raise


def allocated(descriptor: int, size: int) -> bool:
    """Whether the file system could set the room aside itself; raises OSError when it is full."""
    if not hasattr(os, "posix_fallocate"):
        return False
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            raise
    # Looked at, not believed: PyPy 7.3 does not raise when the disk is full.
    return os.fstat(descriptor).st_blocks * 512 >= size


def outputs(rundir: str, globs: Tuple[str, ...]) -> List[str]:
    """The files that the globs name, relative to the run directory, in order.

    Links are followed to files inside the run directory; folders that are links are not entered.
    """
    wanted = [glob_regex(native(one)) for one in globs if not one.startswith("!")]
    unwanted = [glob_regex(native(one[1:])) for one in globs if one.startswith("!")]
    root = os.path.realpath(rundir)
    own = {*OWN_FOLDERS, *OWN_FILES, *TEMPORARY}
    found = set()
    for top in {fixed_part(native(one)) for one in globs if not one.startswith("!")}:
        for path in walk(rundir, top):
            if path.split(os.sep)[0] in own or not stays_inside(rundir, path, root):
                continue
            if any(one.fullmatch(path) for one in wanted) and not any(
                one.fullmatch(path) for one in unwanted
            ):
                found.add(path)
    return sorted(found)


def walk(rundir: str, top: str) -> Iterator[str]:
    """Every file at or below a place, relative to the run directory."""
    start = os.path.normpath(os.path.join(rundir, top))
    if not os.path.isdir(start):
        yield os.path.relpath(start, rundir)
        return
    for parent, _, names in os.walk(start):
        for name in names:
            yield os.path.relpath(os.path.join(parent, name), rundir)


def stays_inside(rundir: str, path: str, root: str) -> bool:
    """Whether a path is a file that lies, links resolved, in the run directory."""
    real = os.path.realpath(os.path.join(rundir, path))
    return real.startswith(os.path.join(root, "")) and os.path.isfile(real)


def fixed_part(pattern: str) -> str:
    """The folders in front of the first wildcard."""
    parts = []
    for part in pattern.split("/"):
        if any(char in part for char in "*?["):
            break
        parts.append(part)
    return "/".join(parts).lstrip("/")


def glob_regex(pattern: str) -> Pattern[str]:
    """A glob as a regular expression; what matches a folder matches all beneath it."""
    parts = [part for part in pattern.split("/") if part not in ("", ".")]
    made = ""
    for index, part in enumerate(parts):
        last = index == len(parts) - 1
        if part == "**":
            made += ".+" if last else "(?:.+/)?"
        else:
            made += part_regex(part) + ("" if last else "/")
    return re.compile(made + "(?:/.+)?", re.DOTALL)


def part_regex(part: str) -> str:
    """One name of a glob."""
    made, at = "", 0
    while at < len(part):
        char, at = part[at], at + 1
        close = part.find("]", at + 1) if char == "[" else -1
        if char == "*":
            made += "[^/]*"
        elif char == "?":
            made += "[^/]"
        elif close > 0:
            inner, at = part[at:close], close + 1
            negated = "^" if inner[0] in "!^" else ""
            inner = inner[1:] if negated else inner
            made += "[%s%s]" % (negated, re.sub(r"([\\\[\]^&~|])", r"\\\1", inner))
        else:
            made += re.escape(char)
    return made


def digest(path: str, beat: Callable[[], None]) -> Tuple[int, str]:
    """Size and sha256 of a file; `beat` is called between the blocks."""
    total, made = 0, hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while True:
            block = file.read(1 << 20)
            if not block:
                return total, made.hexdigest()
            total += len(block)
            made.update(block)
            beat()


# ── a step's processes ────────────────────────────────────────────────────────────────────────────


class Child:
    """A step's process group, and those that lost their parent below it."""

    def __init__(self, popen: "subprocess.Popen[bytes]", spared: Dict[int, str], mark: str) -> None:
        self.popen = popen
        self.group = popen.pid
        self.code: Optional[int] = None
        self._spared = spared
        self._mark = mark

    def reap(self) -> None:
        """Take in whoever has died: the step's program, and orphans that became our children."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self.popen.pid:
                self.code = exit_code(status)
                self.popen.returncode = self.code  # it must not wait for the program itself

    @property
    def over(self) -> bool:
        """Whether the program has ended and its group is empty."""
        return self.code is not None and not group_lives(self.group)

    def adopted(self) -> List[int]:
        """Living children of ours that are not the step's program. Linux only; elsewhere none."""
        own = os.getpid()
        return [
            one.pid
            for one in processes() or ()
            if one.parent == own
            and not one.dead
            and one.pid != self.popen.pid
            and self._spared.get(one.pid) != one.started
            # To process 1 of a container every orphan in it falls, not only ours.
            and (own != 1 or carries(one.pid, self._mark))
        ]

    def leftovers(self) -> bool:
        """Whether anybody is left whom the step started."""
        return group_lives(self.group) or bool(self.adopted())

    def signal(self, what: int, *, adopted: bool = False) -> None:
        """Signal the whole group, and the adopted if wanted."""
        signal_group(self.group, what)
        for pid in self.adopted() if adopted else ():
            with contextlib.suppress(OSError):
                os.kill(pid, what)


@dataclass
class Order:
    """Why the run must end, and by when."""

    phase: str
    reason: str
    bound: float = math.inf
    code: Optional[int] = None  # of another node, whose end decides
    checkpoint: bool = True  # whether one is waited for


class Ending:
    """Ends a step by the recipe, a tick at a time, while its output is still read."""

    def __init__(self, supervisor: Supervisor, step: Step, child: Child, order: Order) -> None:
        self._supervisor = supervisor
        self._child = child
        self._order = order
        self._recipe = supervisor.plan.stop
        self._listed = step.name in self._recipe.steps
        self._began = clock()
        self._signalled_at: Optional[float] = None
        self._sent_again = False
        self.killed_at: Optional[float] = None
        self.how = ""
        self._old = supervisor.checkpoints.now_ready()
        self._waits = (
            self._listed
            and order.checkpoint
            and bool(self._recipe.touch)
            and supervisor.plan.checkpoint is not None
        )
        supervisor.note("%s: ending step %s" % (order.reason, step.name))
        if self._waits and order.bound > self._began:
            supervisor.touch()
            supervisor.note("asked for a checkpoint")

    @property
    def signalled(self) -> bool:
        """Whether the step was told to end, so that its end is not its own doing."""
        return self._signalled_at is not None or self.killed_at is not None

    def tick(self, now: float) -> None:
        """Do what is due."""
        if self.killed_at is not None:
            self._child.signal(signal.SIGKILL, adopted=True)
        elif now >= self._order.bound:
            self._kill(now, "the grace is over" if self._order.bound > self._began else "at once")
        elif self._signalled_at is None:
            self._maybe_interrupt(now)
        elif now >= self._signalled_at + self._recipe.interrupt_s:
            self._kill(now, "still there %g s after the signal" % self._recipe.interrupt_s)
        elif self._listed and not self._sent_again and self._half_over(now):
            # An interrupt can be lost, for example to a hook that swallows the exit. Once more, and
            # late: a program that is saving would begin its save anew with each.
            self._sent_again = True
            self._child.signal(signal.SIGINT)
            self._supervisor.note("SIGINT again")

    def _half_over(self, now: float) -> bool:
        return now >= (self._signalled_at or now) + self._recipe.interrupt_s / 2

    def _maybe_interrupt(self, now: float) -> None:
        if self._waits:
            done = self._new_checkpoint(now)
            if not done and now < self._checkpoint_until():
                return
            self.how = "checkpoint %s" % done if done else "no new checkpoint in time"
            self._supervisor.note(self.how)
        what = signal.SIGINT if self._listed else signal.SIGTERM
        self._signalled_at = now
        self._supervisor.tell_others()
        self._child.signal(what)
        self._supervisor.note("%s to the process group" % what.name)

    def _checkpoint_until(self) -> float:
        bound, start = self._order.bound, self._began
        if bound == math.inf:
            return start + self._recipe.wait_s
        kept = max(bound - self._recipe.interrupt_s, start + (bound - start) / 2)
        return min(start + self._recipe.wait_s, kept)

    def _new_checkpoint(self, now: float) -> Optional[str]:
        self._supervisor.look_for_checkpoints(now)
        complete = self._supervisor.checkpoints.complete
        new = [path for path, files in complete.items() if files != self._old.get(path)]
        return portable(max(new, key=tail_of)) if new else None

    def _kill(self, now: float, why: str) -> None:
        self.killed_at = now
        self.how = "; ".join(part for part in (self.how, "killed: %s" % why) if part)
        self._supervisor.note("SIGKILL: %s" % why)
        self._supervisor.tell_others(at_once=True)
        self._child.signal(signal.SIGKILL, adopted=True)


# ── the supervisor ────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Verdict:
    """How a step, or the run, ended."""

    phase: str
    code: Optional[int]
    reason: str = ""


class Supervisor:
    """Runs a plan under the lock, and keeps the record."""

    def __init__(self, rundir: str, before: Optional[State], *, foreground: bool) -> None:
        self.rundir = rundir
        self.before = before or {}
        self.foreground = foreground
        self.began = clock()
        self.plan = Plan("", (), ())
        self.order: Optional[Order] = None
        self.checkpoints = Checkpoints(rundir, None)
        self.copy = Copy(1) if foreground else None
        self.log = Log(rundir, (), self._copied)
        self.child: Optional[Child] = None
        self.team: Any = None  # see `team.py`; None on a node of its own
        self._said_by_others: List[str] = []
        self.step_deadline = (math.inf, "")
        self._spared = {one.pid: one.started for one in processes() or () if is_child(one)}
        self._signals: List[str] = []
        self._stop_seen: Any = None
        self._touched: Set[str] = set()
        self._unwritten: Set[str] = set()
        self._hurry_until = -math.inf  # for a checkpoint that was asked for
        self._beat_at = self._looked_at = -math.inf
        self._row: Optional[State] = None
        self._wake_read, self._wake_write = -1, -1
        self.state = self._first_state()

    def _first_state(self) -> State:
        before = self.before
        return {
            "schema": SCHEMA,
            "version": int(before.get("version", 0)),
            "job": str(before.get("job", "")),
            "attempt": int(before.get("attempt", 0)) + 1,
            "phase": "starting",
            "outcome": None,
            "reason": "",
            "exit_code": None,
            "pid": os.getpid(),
            "pgid": None,
            "pgid_started": None,
            "mark": os.urandom(8).hex(),
            "boot_id": boot_id(),
            "host": socket.gethostname(),
            "started_at": stamp(),
            "ended_at": None,
            "heartbeat_at": stamp(),
            "elapsed_s": float(before.get("elapsed_s") or 0.0),
            "deadline_at": None,
            "step": None,
            "steps": [],
            "metrics_segments": self.log.metrics_segments,
            "last_metrics": {},
            "checkpoints": list(before.get("checkpoints") or ()),
            "log_lines": int(before.get("log_lines") or 0),
            "log_lines_lost": int(before.get("log_lines_lost") or 0),
            "disk_free_bytes": disk_free(self.rundir),
        }

    def _copied(self, line: bytes) -> None:
        if self.copy is not None:
            self.copy(line)
        if self.team is not None and self.team.rank:
            text = line.rstrip(b"\n").split(b" ", 2)[2]
            self.team.say(text.decode("utf-8", "replace"))

    # The record.

    def path(self, *parts: str) -> str:
        """A place in the run directory."""
        return os.path.join(self.rundir, *parts)

    def save(self, *, sync: bool = False, tries: int = 1, **changes: Any) -> bool:
        """Write the state; False when the disk does not take it, which ends nothing."""
        self.state.update(changes)
        if self.state["outcome"] is None:
            self.state["elapsed_s"] = round(self.elapsed(), 3)
        self.state.update(
            version=self.state["version"] + 1,
            heartbeat_at=stamp(),
            metrics_segments=self.log.metrics_segments,
            last_metrics=self.log.last_metrics,
            checkpoints=self.checkpoints.rows,
            log_lines=self.log.sequence,
            log_lines_lost=self.log.lost + int(self.before.get("log_lines_lost") or 0),
            disk_free_bytes=disk_free(self.rundir),
        )
        if self.team is not None:
            self.state["nodes"] = self.team.rows()
        if self._row is not None:
            self._row["segments"] = self.log.segments
        self._beat_at = clock()
        return self._write("state.json", self.state, sync=sync, tries=tries)

    def _write(self, name: str, value: Any, *, sync: bool, tries: int) -> bool:
        for left in reversed(range(tries)):
            try:
                write_atomic(self.path(name), encoded(value) + b"\n", sync=sync)
            except OSError as error:
                if not left:
                    if name not in self._unwritten:  # once, not with each heartbeat
                        self.complain("%s cannot be written: %s" % (name, error))
                    self._unwritten.add(name)
                    return False
                time.sleep(0.3)
            else:
                self._unwritten.discard(name)
                break
        return True

    def elapsed(self) -> float:
        """Seconds the run has been worked on, over all attempts."""
        return float(self.before.get("elapsed_s") or 0.0) + clock() - self.began

    def note(self, text: str) -> None:
        """A line of the runner's own in the step's log."""
        self.log.line(b"[runner] " + text.encode("utf-8", "backslashreplace"))

    def complain(self, text: str) -> None:
        """Say something where it does not need the log."""
        line = ("%s %s\n" % (stamp(), text)).encode("utf-8", "backslashreplace")
        with contextlib.suppress(OSError), open(self.path("runner.err"), "ab") as file:
            file.write(line)
        if self.foreground:
            with contextlib.suppress(OSError):
                os.write(2, line)

    # The run.

    def prepare(self) -> None:
        """Put the first state of this attempt in place, and clear away what the last one left."""
        self._listen()
        new_attempt = bool(self.before)
        if new_attempt:
            end_leftovers(self.rundir, self.before, 0.0)
            self._forget("control/stop.json", "control/checkpoint.json")
        sequence = max(last_sequence(self.rundir), int(self.before.get("log_lines") or 0))
        mend_segment(self.path("metrics"), ".jsonl")
        self.log.go_on_from(sequence)
        self.checkpoints.rows = self.state["checkpoints"]
        if not self.save(sync=True, tries=3):
            raise OSError("state.json cannot be written in %r" % self.rundir)
        if new_attempt:
            self._forget("manifest.json")

    def _forget(self, *names: str) -> None:
        for name in names:
            with contextlib.suppress(OSError):
                os.unlink(self.path(name))

    def run(self) -> Verdict:
        """Run the plan to its verdict; whatever happens, there is one."""
        try:
            self._set_up()
            verdict = self._run_steps()
        except Exception as error:  # noqa: BLE001 - the record must not stay "running"
            verdict = self._broken(error)
        self._leave_team(verdict)
        self._finish(verdict)
        return verdict

    def _broken(self, error: Exception) -> Verdict:
        if isinstance(error, PlanError):
            self.complain(str(error))
            return Verdict("failed", INTERNAL, str(error))
        self.complain(traceback.format_exc())
        if self.child is not None:
            with contextlib.suppress(Exception):
                self._kill_all(self.child)
        told = "%s: %s" % (type(error).__name__, error)
        return Verdict("failed", INTERNAL, "the runner itself failed: %s" % told)

    @staticmethod
    def _kill_all(child: Child) -> None:
        until = clock() + KILLED_S
        while child.leftovers() and clock() < until:
            child.signal(signal.SIGKILL, adopted=True)
            time.sleep(0.02)
            child.reap()

    def _set_up(self) -> None:
        become_subreaper()
        self.plan = read_plan(self.rundir)
        rows = self.checkpoints.rows
        self.checkpoints = Checkpoints(self.rundir, self.plan.checkpoint)
        self.checkpoints.rows = rows
        sequence = self.log.sequence
        self.log = Log(self.rundir, self.plan.metrics, self._copied)
        self.log.go_on_from(sequence)
        if self.plan.nodes > 1:
            self._join_team()
        try:
            if self.plan.reserve_bytes > 0:
                reserve(self.path(".reserve"), self.plan.reserve_bytes)
        except OSError as error:
            self.complain("no room for the disk reserve: %s" % error)
        deadline = self.plan.deadline_s
        self.state["job"] = self.plan.job
        self.state["steps"] = [self._waiting_row(step) for step in self.plan.steps]
        if deadline is not None:
            with contextlib.suppress(ValueError, OverflowError, OSError):  # beyond any calendar
                self.state["deadline_at"] = stamp(time.time() + deadline - self.elapsed())
        self.save(phase="running")

    # Several nodes.

    def _join_team(self) -> None:
        """Know the other nodes. Raises PlanError where that cannot be."""
        module = load_team(self.rundir)
        try:
            self.team = module.join(self.plan.nodes)
        except module.TeamError as error:
            raise PlanError(str(error)) from error
        if self.team.rank:
            self.plan = dataclasses.replace(self.plan, deadline_s=None)  # the first one's affair
        else:
            self.log.node = self.team.name

    def _hear_others(self) -> None:
        for said in () if self.team is None else self.team.tick():
            if not hasattr(said, "phase"):
                self.log.keep(said.text, stamp(), said.name)
                continue
            self._said_by_others.append(said.reason)
            grace = SIGNAL_GRACE_S if said.grace_s is None else said.grace_s
            self._must_end(said.phase, said.reason, grace, of_other=said)

    def tell_others(self, *, at_once: bool = False) -> None:
        """The step is being ended here: so it is everywhere."""
        if self.team is not None and self.order is not None:
            left = self.order.bound - clock()
            grace = 0.0 if at_once else None if left == math.inf else max(0.0, left)
            self.team.end(self.order.phase, self.order.reason, self.order.code, grace)

    def _until_others(self, there: Callable[[], bool]) -> bool:
        """Wait for the other nodes; False when there is an order to end instead."""
        while True:
            self.look_for_orders(clock(), at_once=True)
            if self.order is not None:
                return False
            if there():
                return True
            self._pause()

    def _pause(self) -> None:
        with contextlib.suppress(OSError):
            select.select([self.wake], [], [], TICK_S / 4)
            os.read(self.wake, 4096)
        self.beat(clock())

    def _all_ready(self, step: Step) -> bool:
        if self.team is None:
            return True
        since = self._goes_on_from(step)
        return self._until_others(lambda: bool(self.team.ready(step.name, since)))

    def _all_done(self, step: Step, verdict: Verdict) -> Verdict:
        """A step that is over here: what it came to, as all nodes say."""
        if self.team is None:
            return verdict
        if verdict.phase == "succeeded":
            self.team.done(step.name)
            if self._until_others(lambda: bool(self.team.rank or self.team.done(step.name))):
                return verdict
            verdict = self._as_ordered()
        elif self.order is None and not self.team.rank:
            self._hear_for(TOGETHER_S, lambda: bool(self.team.parted()))
            told = "; ".join((verdict.reason, *self._said_by_others))
            verdict = Verdict(verdict.phase, verdict.code, told)
        self._part(verdict)
        return verdict

    def _as_ordered(self) -> Verdict:
        assert self.order is not None
        usual = INTERNAL if self.order.phase == "failed" else 0
        code = usual if self.order.code is None else self.order.code
        return Verdict(self.order.phase, code, self.order.reason)

    def _part(self, verdict: Verdict) -> None:
        """The first node's word to the others, and the wait for theirs."""
        if self.team is None or self.team.rank:
            return
        if verdict.phase != "succeeded":
            bound = math.inf if self.order is None else self.order.bound
            grace = SIGNAL_GRACE_S if bound == math.inf else max(0.0, bound - clock())
            self.team.end(verdict.phase, verdict.reason, verdict.code, grace)
        longest = self.plan.stop.interrupt_s + SIGNAL_GRACE_S + KILLED_S
        self._hear_for(longest, lambda: bool(self.team.parted()))

    def _hear_for(self, longest: float, enough: Callable[[], bool]) -> None:
        until = clock() + longest
        while not enough() and clock() < until:
            self._pause()
            self.look_for_orders(clock(), at_once=True)

    def _leave_team(self, verdict: Verdict) -> None:
        if self.team is None:
            return
        with contextlib.suppress(Exception):
            self._part(verdict)
            own = self.order is None or self.order.checkpoint
            self.team.leave(verdict.phase, verdict.code, verdict.reason, own=own)

    def _waiting_row(self, step: Step) -> State:
        return {
            "name": step.name,
            "phase": "waiting",
            "exit_code": None,
            "started_at": None,
            "ended_at": None,
            "segments": last_segment(self.path("logs", step.name), ".log"),
            "first_seq": None,
        }

    def _listen(self) -> None:
        """Handlers, never SIG_IGN: what is ignored here would be ignored by the steps, too."""
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        self._wake_read, self._wake_write = os.pipe()
        for end in (self._wake_read, self._wake_write):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, pass_over)
        signal.signal(signal.SIGQUIT, signal.SIG_DFL)
        for what in (signal.SIGTERM, signal.SIGINT):
            signal.signal(what, self._on_signal)
        signal.signal(signal.SIGHUP, self._on_signal if self.foreground else pass_over)

    def _on_signal(self, what: int, _: Any) -> None:
        self._signals.append(signal.Signals(what).name)

    def _run_steps(self) -> Verdict:
        verdict = Verdict("succeeded", 0)
        for step, row in zip(self.plan.steps, self.state["steps"]):
            self.look_for_orders(clock(), at_once=True)
            if self.order is not None:
                done = verdict.code if row is not self.state["steps"][0] else None
                return Verdict(self.order.phase, done, self._before_step(step))
            if step.skip_if is not None and os.path.exists(step.skip_if):
                row["phase"] = "skipped"
                continue
            verdict = self._run_step(step, row)
            if verdict.phase != "succeeded":
                return verdict
        return verdict

    def _before_step(self, step: Step) -> str:
        assert self.order is not None
        return "%s before step %s" % (self.order.reason, step.name)

    # One step.

    def _run_step(self, step: Step, row: State) -> Verdict:
        self.log.open(step.name)
        self._row = row
        row.update(phase="running", started_at=stamp(), first_seq=self.log.sequence + 1)
        self.save(step=step.name)
        try:
            if not self._all_ready(step):
                assert self.order is not None
                code = self.order.code
                verdict = Verdict(self.order.phase, code, self._before_step(step))
                self.note(verdict.reason)
                return self._end_step(step, row, verdict)
            child, pipe = self._spawn(step)
        except (OSError, ValueError) as error:
            missing = isinstance(error, FileNotFoundError)
            code = NOT_FOUND if missing else NOT_EXECUTABLE
            verdict = Verdict("failed", code, "step %s cannot start: %s" % (step.name, error))
            self.note(verdict.reason)
        else:
            verdict = self._watch(step, child, pipe)
        return self._end_step(step, row, verdict)

    def _end_step(self, step: Step, row: State, verdict: Verdict) -> Verdict:
        verdict = self._all_done(step, verdict)
        self._forget_touched()
        self.log.flush()
        if self.log.waiting:  # nobody else is left to take the room, and the last lines say why
            self._forget(".reserve")
            self.log.flush()
        row.update(phase=verdict.phase, exit_code=verdict.code, ended_at=stamp())
        self.save(step=None, pgid=None, pgid_started=None)
        row["segments"] = self.log.segments
        self._row = None
        self.log.close()
        return verdict

    def _goes_on_from(self, step: Step) -> str:
        """The newest complete checkpoint, which a later attempt goes on from; "" for none."""
        if not step.again or self.state["attempt"] == 1:
            return ""
        return portable(max(self.checkpoints.now_ready(), key=tail_of, default=""))

    def _argv(self, step: Step) -> Tuple[str, ...]:
        """The step's command; in a later attempt it goes on from the newest complete checkpoint."""
        argv = tuple(
            self.team.fact(word["node"]) if isinstance(word, dict) else word for word in step.argv
        )
        since = self._goes_on_from(step)
        if not since:
            return argv
        newest = os.path.join(self.rundir, native(since))
        self.note("goes on from %s" % since)
        more = [
            native(value["prefix"]) + newest
            if isinstance(value, dict) and value.get("newest")
            else argument(value, self.rundir)
            for value in step.again
        ]
        return (*argv, *more)

    def _spawn(self, step: Step) -> Tuple[Child, int]:
        environment = dict(os.environ)
        environment.setdefault("PYTHONUNBUFFERED", "1")  # or a log arrives in lumps
        environment.update(step.env)
        environment.update(
            FTLAUNCH_RUN_DIR=self.rundir,
            FTLAUNCH_STEP=step.name,
            FTLAUNCH_ATTEMPT=str(self.state["attempt"]),
            FTLAUNCH_RUN_MARK=self.state["mark"],
        )
        reading, writing = os.pipe()
        try:
            with open(step.stdin or os.devnull, "rb") as stdin:
                popen = subprocess.Popen(
                    self._argv(step),
                    cwd=step.cwd,
                    env=environment,
                    stdin=stdin,
                    stdout=writing,
                    stderr=writing,
                    start_new_session=True,
                )
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        os.set_blocking(reading, False)
        self.child = Child(popen, self._spared, self.state["mark"])
        # Before anything else: this is how a step is found whose runner was killed.
        self.save(sync=True, pgid=popen.pid, pgid_started=started_at(popen.pid))
        return self.child, reading

    def _watch(self, step: Step, child: Child, pipe: int) -> Verdict:
        output = Output(self, pipe)
        if step.timeout_s is not None:
            reason = "step %s passed its time-out of %g s" % (step.name, step.timeout_s)
            self.step_deadline = (clock() + step.timeout_s, reason)
        ending: Optional[Ending] = None
        try:
            while True:
                output.pump(TICK_S)
                child.reap()
                now = clock()
                if child.code is not None and (ending is None or child.over):
                    break
                if ending is not None and now - (ending.killed_at or now) > KILLED_S:
                    self.note("some of it does not go away even when killed")
                    break
                self.look_for_orders(now)
                if self.order is not None:
                    if ending is None:
                        self.save(phase="stopping", reason=self.order.reason)
                        ending = Ending(self, step, child, self.order)
                    ending.tick(now)
                self.beat(now)
            self._end_leftovers(child, output)
            output.finish()
        finally:
            self.step_deadline = (math.inf, "")
            output.close()
        self.child = None
        return self._judge(step, child, ending)

    def _judge(self, step: Step, child: Child, ending: Optional[Ending]) -> Verdict:
        code = 128 + signal.SIGKILL if child.code is None else child.code
        words = "step %s %s" % (step.name, code_in_words(code))
        if self.log.node:
            words = "%s: %s" % (self.log.node, words)
        if ending is not None and self.order is not None and self.order.code is not None:
            parts = (self.order.reason, ending.how, words)
            return Verdict(
                self.order.phase, self.order.code, "; ".join(part for part in parts if part)
            )
        if ending is None or self.order is None:
            return Verdict("failed", code, words) if code else Verdict("succeeded", 0)
        if not ending.signalled:
            last = step is self.plan.steps[-1]
            by_itself = "%s by itself after: %s" % (words, self.order.reason)
            if code:
                return Verdict("failed", code, by_itself)
            if last:
                return Verdict("succeeded", 0, by_itself)
            # The loop over the steps sees the order and starts no other.
            self.order.reason = by_itself
            return Verdict("succeeded", 0)
        parts = (self.order.reason, ending.how, words)
        return Verdict(self.order.phase, code, "; ".join(part for part in parts if part))

    def _end_leftovers(self, child: Child, output: Output) -> None:
        """End and reap what the step's program left running."""
        if not child.leftovers():
            return
        self.note("the step left processes behind: ending them")
        child.signal(signal.SIGTERM, adopted=True)
        self._until_gone(child, output, LEFTOVER_S)
        until = clock() + KILLED_S
        while child.leftovers() and clock() < until:
            child.signal(signal.SIGKILL, adopted=True)
            self._until_gone(child, output, TICK_S)

    def _until_gone(self, child: Child, output: Output, longest: float) -> None:
        until = clock() + longest
        while child.leftovers() and clock() < until:
            output.pump(0.05)
            child.reap()
            self.beat(clock())
            self.look_for_orders(clock())
            if self.order is not None and clock() >= self.order.bound:
                return

    # What is asked of the run.

    def look_for_orders(self, now: float, *, at_once: bool = False) -> None:
        """See whether the run must end, or a checkpoint is wanted."""
        while self._signals:
            name = self._signals.pop(0)
            again = self.order is not None and name == "SIGINT"
            self._must_end("stopped", name, 0.0 if again else SIGNAL_GRACE_S)
        if now - self._looked_at < TICK_S and not at_once:
            return
        self._looked_at = now
        self._hear_others()
        self._look_for_stop()
        deadline = self.plan.deadline_s
        if deadline is not None and self.elapsed() >= deadline:
            self._must_end("expired", "the deadline of %g s passed" % deadline, None)
        if now >= self.step_deadline[0]:
            self._must_end("expired", self.step_deadline[1], None)
        if os.path.exists(self.path("control", "checkpoint.json")):
            self._forget("control/checkpoint.json")
            self._ask_checkpoint(now)

    def _must_end(
        self, phase: str, reason: str, grace_s: Optional[float], *, of_other: Any = None
    ) -> None:
        """The first order decides why; a later one can only bring the end forward."""
        now = clock()
        bound = math.inf if grace_s is None else now + grace_s
        if self.order is None:
            code = None if of_other is None else of_other.code
            self.order = Order(phase, reason, bound, code, checkpoint=of_other is None)
        else:
            self.order.bound = min(self.order.bound, bound)

    def _look_for_stop(self) -> None:
        path = self.path("control", "stop.json")
        try:
            seen = os.stat(path)
        except OSError:
            return
        identity = (seen.st_ino, seen.st_mtime_ns, seen.st_size)
        if identity != self._stop_seen:
            self._stop_seen = identity
            asked = (read_object(path) or {}).get("grace_s")
            grace = None
            if isinstance(asked, (int, float)) and math.isfinite(asked):
                grace = max(0.0, float(asked))
            self._must_end("stopped", "stop requested", grace)

    def _ask_checkpoint(self, now: float) -> None:
        if self.state["step"] in self.plan.stop.steps and self.plan.stop.touch:
            self.touch()
            self._hurry_until = now + 60.0
            self.note("a checkpoint was requested")
        else:
            self.note("a checkpoint was requested, but this step writes none")

    def touch(self) -> None:
        """Make the files that ask the program for a checkpoint."""
        for path in self.plan.stop.touch:
            try:
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with open(path, "ab"):
                    os.utime(path)
                self._touched.add(path)
            except OSError as error:
                self.note("cannot ask for a checkpoint: %s" % error)

    def _forget_touched(self) -> None:
        """A request that nobody took would be taken by the next attempt."""
        for path in self._touched:
            with contextlib.suppress(OSError):
                os.unlink(path)
        self._touched.clear()

    def look_for_checkpoints(self, now: float) -> None:
        """Look again, and tell at once when something changed."""
        if self.checkpoints.look(now):
            self.save()

    def beat(self, now: float) -> None:
        """Keep the state fresh: each heartbeat, and soon after a new segment."""
        self.log.flush()
        if self.checkpoints.unsettled or now < self._hurry_until:
            self.look_for_checkpoints(now)
        told = self.state["metrics_segments"] == self.log.metrics_segments and (
            self._row is None or self._row["segments"] == self.log.segments
        )
        since = now - self._beat_at
        if since >= HEARTBEAT_S or (not told and since >= min(HEARTBEAT_S, 0.5)):
            self.checkpoints.look(now)
            self.save()

    # The end.

    def _ended(self, verdict: Verdict) -> State:
        return {
            "outcome": verdict.phase,
            "exit_code": verdict.code,
            "reason": verdict.reason,
            "ended_at": stamp(),
            "step": None,
            "pgid": None,
            "pgid_started": None,
        }

    def _finish(self, verdict: Verdict) -> None:
        """The outcome first, for a kill while hashing; then the manifest; then the phase."""
        self._forget(".reserve")
        self.state["elapsed_s"] = round(self.elapsed(), 3)
        with contextlib.suppress(OSError):
            self.checkpoints.look(clock(), final=True)
        self.save(sync=True, tries=10, **self._ended(verdict))
        self.log.flush()
        try:
            wrong = self._write_manifest(verdict)
        except Exception as error:  # noqa: BLE001 - the outcome is given and must not change
            self.complain(traceback.format_exc())
            wrong = "the manifest could not be made: %s" % error
        self.state["reason"] = "; ".join(part for part in (verdict.reason, wrong) if part)
        self.save(sync=True, tries=10, phase=verdict.phase)
        self._finish_copy()

    def _write_manifest(self, verdict: Verdict) -> str:
        if self._write("manifest.json", self._manifest(verdict), sync=True, tries=10):
            return ""
        return "the manifest could not be written"

    def _manifest(self, verdict: Verdict) -> State:
        files: List[State] = []
        for path in outputs(self.rundir, self.plan.outputs):
            try:
                size, sha256 = digest(self.path(path), self._beat_while_hashing)
            except OSError as error:
                self.complain("%r is left out of the manifest: %s" % (portable(path), error))
                continue
            files.append({"path": portable(path), "size": size, "sha256": sha256})
        return {
            "schema": SCHEMA,
            "job": self.plan.job,
            "attempt": self.state["attempt"],
            "verdict": verdict.phase,
            "files": files,
        }

    def _beat_while_hashing(self) -> None:
        if clock() - self._beat_at >= HEARTBEAT_S:
            self.save()

    def _finish_copy(self) -> None:
        if self.copy is None:
            return
        until = clock() + DRAIN_S
        with selectors.SelectSelector() as selector:
            selector.register(self.copy.descriptor, selectors.EVENT_WRITE)
            while self.copy.wants and clock() < until:
                if selector.select(TICK_S):
                    self.copy.write()

    @property
    def wake(self) -> int:
        """Readable when a signal came in."""
        return self._wake_read


def load_team(rundir: str) -> Any:
    """What lies beside the runner where a job has several nodes. Raises PlanError."""
    path = os.path.join(rundir, "team.py")
    spec = importlib.util.spec_from_file_location("ftlaunch_team", path)
    if spec is None or spec.loader is None or not os.path.exists(path):
        raise PlanError("there is no team.py, and the plan is for several nodes")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def pass_over(*_: Any) -> None:
    """Handle a signal by doing nothing. Unlike SIG_IGN, this does not pass on to the steps."""


def is_child(one: Process) -> bool:
    """Whether a process is a child of ours."""
    return one.parent == os.getpid()


class Output:
    """Reads what a step prints, and writes the copy of the log, whichever is ready."""

    def __init__(self, supervisor: Supervisor, pipe: int) -> None:
        self._supervisor = supervisor
        self._pipe: Optional[int] = pipe
        self._lines = Lines(supervisor.log.line)
        self._selector = selectors.SelectSelector()  # takes plain files, which epoll does not
        self._selector.register(pipe, selectors.EVENT_READ)
        self._selector.register(supervisor.wake, selectors.EVENT_READ)
        self._copying = False

    def pump(self, longest: float) -> int:
        """Wait for something to do, and do it; the number of bytes the step said."""
        self._lines.tick()
        self._watch_copy()
        taken = 0
        for key, _ in self._selector.select(longest):
            if key.fd == self._pipe:
                taken = self._read()
            elif key.fd == self._supervisor.wake:
                with contextlib.suppress(OSError):
                    os.read(key.fd, 4096)
            elif self._supervisor.copy is not None:
                self._supervisor.copy.write()
        return taken

    def _watch_copy(self) -> None:
        copy = self._supervisor.copy
        if copy is not None and copy.wants != self._copying:
            self._copying = copy.wants
            if self._copying:
                self._selector.register(copy.descriptor, selectors.EVENT_WRITE)
            else:
                self._selector.unregister(copy.descriptor)

    def _read(self) -> int:
        assert self._pipe is not None
        try:
            data = os.read(self._pipe, 1 << 18)
        except BlockingIOError:
            return 0
        if data:
            self._lines.feed(data)
            self._supervisor.log.flush()
        else:
            self._close_pipe()
        return len(data)

    def finish(self) -> None:
        """Read to the end, but do not wait for somebody out of reach who holds the pipe."""
        until = clock() + DRAIN_S
        while self._pipe is not None and clock() < until:
            self.pump(TICK_S)
        self._lines.end()

    def _close_pipe(self) -> None:
        if self._pipe is not None:
            self._selector.unregister(self._pipe)
            os.close(self._pipe)
            self._pipe = None

    def close(self) -> None:
        """Let go of the pipe."""
        self._close_pipe()
        self._selector.close()


# ── commands ──────────────────────────────────────────────────────────────────────────────────────


def read_state(rundir: str) -> Optional[State]:
    """The state as the runner last wrote it."""
    return read_object(os.path.join(rundir, "state.json"))


def status(rundir: str) -> State:
    """The state, checked against the lock: `alive` is added, and `phase` may be "lost".

    "absent" when nothing was started here. A runner that died between its outcome and its last
    word has the outcome's phase; the reason says what is missing.
    """
    rundir = os.path.abspath(rundir)
    while True:
        before = read_state(rundir)
        alive = is_locked(rundir)
        state = read_state(rundir)
        if alive:
            return {**(state or {"schema": SCHEMA, "phase": "starting"}), "alive": True}
        if state == before:  # else it wrote, and perhaps ended, between our looks
            break
    if state is None:
        return {"schema": SCHEMA, "phase": "absent", "alive": False}
    return {**state, **_without_runner(rundir, state), "alive": False}


def _without_runner(rundir: str, state: State) -> State:
    if state.get("phase") in ENDED:
        return {}
    outcome = state.get("outcome")
    if outcome in ENDED:
        manifest = read_object(os.path.join(rundir, "manifest.json")) or {}
        if manifest.get("attempt") == state.get("attempt"):
            return {"phase": outcome}
        told = "the runner was gone before the manifest was written"
        reason = state.get("reason")
        return {"phase": outcome, "reason": "%s; %s" % (reason, told) if reason else told}
    if state.get("boot_id") != boot_id():
        return {"phase": "lost", "reason": "the machine was rebooted, or is another one"}
    if leftover_group(state) is not None:
        return {"phase": "lost", "reason": "the runner was killed; its step still runs"}
    return {"phase": "lost", "reason": "the runner was killed"}


def leftover_group(state: State) -> Optional[int]:
    """The process group of a step whose runner is gone; None when it cannot be known to be ours."""
    group, began = state.get("pgid"), state.get("pgid_started")
    if not isinstance(group, int) or began is None or state.get("boot_id") != boot_id():
        return None
    if not group_lives(group):
        return None
    now = started_at(group)
    if now is not None:
        return group if now == began else None
    # Its first process is gone, so the id proves nothing: the mark does, where /proc shows it.
    members = [one.pid for one in processes() or () if one.group == group]
    return group if any(carries(pid, str(state.get("mark"))) for pid in members) else None


def marked(state: State) -> List[int]:
    """Living processes that carry the mark of an attempt, wherever they went."""
    mark = state.get("mark")
    if not mark or state.get("boot_id") != boot_id():
        return []
    return [one.pid for one in processes() or () if not one.dead and carries(one.pid, str(mark))]


def end_leftovers(rundir: str, state: State, grace_s: Optional[float]) -> None:
    """End the step of a runner that is gone: the softer signal, a wait, SIGKILL."""
    recipe = Recipe()
    with contextlib.suppress(PlanError):
        recipe = read_plan(rundir).stop
    longest = recipe.interrupt_s if grace_s is None else min(grace_s, recipe.interrupt_s)
    group = leftover_group(state)
    if group is not None and longest > 0:
        soft = signal.SIGINT if state.get("step") in recipe.steps else signal.SIGTERM
        signal_group(group, soft)
        until = clock() + longest
        while leftover_group(state) is not None and clock() < until:
            time.sleep(0.05)
    until = clock() + KILLED_S
    while clock() < until:
        group, pids = leftover_group(state), marked(state)
        if group is None and not pids:
            return
        if group is not None:
            signal_group(group, signal.SIGKILL)
        for pid in pids:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def _request(rundir: str, name: str, content: State) -> None:
    folder = os.path.join(rundir, "control")
    temporary = os.path.join(folder, ".%s.%d.%s" % (name, os.getpid(), os.urandom(4).hex()))

    def write() -> None:
        os.makedirs(folder, exist_ok=True)
        write_atomic(os.path.join(folder, name), encoded(content), sync=False, temporary=temporary)

    try:
        write()
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        with contextlib.suppress(OSError):  # a full disk is what the reserve is for
            os.unlink(os.path.join(rundir, ".reserve"))
        write()


def request_stop(rundir: str, grace_s: Optional[float] = None) -> State:
    """Ask the run to end within `grace_s` seconds (None: as long as the recipe takes; 0: now).

    Returns the status once the request is laid down. Of a run whose runner is dead, the step that
    it left behind is ended here, which takes up to that long. A run that has ended is left alone.
    """
    rundir = os.path.abspath(rundir)
    now = status(rundir)
    if now["phase"] in ENDED or not os.path.isdir(rundir):
        return now
    if now["phase"] != "lost":
        _request(rundir, "stop.json", {"grace_s": grace_s})
        now = status(rundir)
    if now["phase"] == "lost":
        end_leftovers(rundir, now, grace_s)
        now = status(rundir)
    return now


def request_checkpoint(rundir: str) -> State:
    """Ask the running step for a checkpoint. A run that has ended is left alone."""
    rundir = os.path.abspath(rundir)
    now = status(rundir)
    if now["alive"] and now["phase"] not in ENDED:
        _request(rundir, "checkpoint.json", {})
    return now


def start(
    rundir: str,
    env: Optional[Dict[str, str]] = None,
    *,
    attempt: bool = False,
    python: str = sys.executable,
) -> State:
    """Start a run by this file's own command, with `env` as its environment; the status.

    Raises OSError with the runner's words when nothing was started.
    """
    argv = [python, os.path.abspath(__file__), "start", *(["--attempt"] if attempt else [])]
    done = subprocess.run(
        [*argv, "--", os.path.abspath(rundir)],
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    if done.returncode:
        raise OSError(done.stderr.decode("utf-8", "replace").strip() or "the runner did not start")
    found: State = json.loads(done.stdout)
    return found


def supervise(
    rundir: str,
    expected: Optional[int],
    *,
    foreground: bool,
    ready: Callable[[], None] = lambda: None,
) -> Optional[Verdict]:
    """Run it under the lock. None when it is left alone: it lives, or it has ended already.

    The lock is held until this process is gone, and with it all that it has open.

    expected  the attempt that may be followed by another; None: only a first attempt is made
    """
    lock = take_lock(rundir)
    if lock is None:
        return None
    before = read_state(rundir)
    if before is not None and before.get("attempt") != expected:
        os.close(lock)
        return None
    supervisor = Supervisor(rundir, before, foreground=foreground)
    supervisor.prepare()
    ready()
    return supervisor.run()


def attempt_seen(rundir: str, wanted: bool) -> Optional[int]:
    """The attempt that a new one would follow: two that see the same one cannot both follow it."""
    if not wanted:
        return None
    until = clock() + KILLED_S
    while True:
        now = status(rundir)  # one that has given its verdict is about to let go of the lock
        if not (now["alive"] and now["phase"] in ENDED and clock() < until):
            return now.get("attempt")
        time.sleep(0.01)


def command_start(rundir: str, attempt: bool) -> int:
    """See the module."""
    expected = attempt_seen(rundir, attempt)
    now = status(rundir)
    if now["phase"] == "absent" or (expected is not None and not now["alive"]):
        problem = detach(rundir, expected)
        if problem:
            sys.stderr.write("runner: %s\n" % problem)
            return NOT_STARTED
        now = status(rundir)
    print(json.dumps(now))
    return 0


def detach(rundir: str, expected: Optional[int]) -> str:
    """Leave a supervisor behind that nothing ties to us; what went wrong, or nothing."""
    reading, writing = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    first = os.fork()
    if first == 0:
        try:
            os.setsid()
            if os.fork() == 0:
                _live_detached(rundir, expected, writing)
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(first, 0)
    told = b""
    with os.fdopen(reading, "rb") as file:
        told = file.read()
    return "" if told in (b"ready", b"left alone") else told.decode("utf-8", "replace") or "it died"


def _live_detached(rundir: str, expected: Optional[int], telling: int) -> NoReturn:
    """The life of the detached process, to its end."""

    def tell(what: bytes) -> None:
        with contextlib.suppress(OSError):
            os.write(telling, what)
            os.close(telling)

    try:
        _let_go(rundir, telling)
        verdict = supervise(rundir, expected, foreground=False, ready=lambda: tell(b"ready"))
        if verdict is None:
            tell(b"left alone")
    except BaseException as error:  # noqa: BLE001
        tell(str(error).encode("utf-8", "backslashreplace"))
        traceback.print_exc()
    finally:
        os._exit(0)


def _let_go(rundir: str, kept: int) -> None:
    """Give up every descriptor but one: whoever waits for ours to close must not wait for a run."""
    signal.signal(signal.SIGHUP, pass_over)
    null = os.open(os.devnull, os.O_RDWR)
    mode = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    errors = os.open(os.path.join(rundir, "runner.err"), mode, 0o644)
    for source, target in ((null, 0), (null, 1), (errors, 2)):
        os.dup2(source, target)
    try:
        names = [int(name) for name in os.listdir("/dev/fd")]
    except (OSError, ValueError):
        names = list(range(1024))
    for descriptor in names:
        if descriptor > 2 and descriptor != kept:
            with contextlib.suppress(OSError):
                os.close(descriptor)
    os.chdir("/")


def command_run(rundir: str, attempt: bool) -> int:
    """See the module."""
    expected = attempt_seen(rundir, attempt)
    verdict = supervise(rundir, expected, foreground=True)
    if verdict is None:
        now = status(rundir)
        if now["phase"] in ENDED and not now["alive"]:
            verdict = Verdict(now["phase"], now.get("exit_code"))
        else:
            told = "it lives already" if now["alive"] else "it was lost; --attempt runs it again"
            sys.stderr.write("runner: nothing was started in %s: %s\n" % (rundir, told))
            return NOT_STARTED
    if is_other_node(rundir):
        return 0
    return {"succeeded": 0, "stopped": 130, "expired": 124}.get(verdict.phase, verdict.code or 1)


def is_other_node(rundir: str) -> bool:
    """Whether this is one of several nodes, and not the first."""
    nodes = (read_object(os.path.join(rundir, "plan.json")) or {}).get("nodes") or 1
    return nodes > 1 and os.environ.get("FTLAUNCH_NODE_RANK", "0") != "0"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="runner.py", description="Runs a job's steps.")
    commands = made.add_subparsers(dest="command", required=True)
    for name in ("start", "run", "status", "stop", "checkpoint"):
        one = commands.add_parser(name)
        one.add_argument("rundir")
        if name in ("start", "run"):
            one.add_argument("--attempt", action="store_true", help="once more after an end")
        if name == "stop":
            one.add_argument("--grace", type=float, metavar="S", help="seconds it may take")
            one.add_argument("--now", action="store_true", help="kill it")
    return made


def main(argv: Optional[List[str]] = None) -> int:
    """Do one command; its exit code."""
    asked = parser().parse_args(argv)
    rundir = os.path.abspath(given_name(asked.rundir))
    if not os.path.isdir(rundir):
        sys.stderr.write("runner: there is no directory %r\n" % rundir)
        return USAGE
    try:
        if asked.command in ("start", "run"):
            if not os.path.exists(os.path.join(rundir, "plan.json")):
                sys.stderr.write("runner: there is no plan.json in %r\n" % rundir)
                return USAGE
            act = command_start if asked.command == "start" else command_run
            return act(rundir, asked.attempt)
        if asked.command == "stop":
            now = request_stop(rundir, 0.0 if asked.now else asked.grace)
        elif asked.command == "checkpoint":
            now = request_checkpoint(rundir)
        else:
            now = status(rundir)
    except OSError as error:
        sys.stderr.write("runner: %s\n" % error)
        return NOT_STARTED if asked.command in ("start", "run") else 1
    print(json.dumps(now))
    return 0


if __name__ == "__main__":
    sys.exit(main())
