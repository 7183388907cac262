"""The copy of a run directory in the bucket, which is all that anybody else ever sees.

Like that of `backends.modal.ftlaunch_job`, which keeps one on a file system, with renames.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from . import RUN, WHOLE, of_job
from .bringing import PRIVATE, checkpoint_of, digest, files_below
from .objects import Objects, each

SMALL_BYTES = 1 << 20
ENDED = ("succeeded", "failed", "stopped", "expired")
LAST = ("manifest.json", "state.json")
# The bucket has what a job was given already; whether a machine has its software is its own affair.
OWN = PRIVATE | {"plan.json", "runner.py", "environment/own"}

Look = tuple[int, int]


class Mirror:
    """One attempt's copying.

    given  what the job was given is not copied back
    whole  the checkpoints that the bucket has
    """

    def __init__(
        self, objects: Objects, job: str, home: Path, given: dict[str, Any], whole: list[str]
    ) -> None:
        self._objects = objects
        self._job = job
        self.home = home
        self._rule: str | None = given["checkpoint"]
        self._whole = set(whole)
        places = {file[0] for file in given["files"]}
        there = {str(path): _look(home / path) for path in files_below(home)}
        self._given = {name: look for name, look in there.items() if name in places}
        self._pushed = {name: look for name, look in there.items() if name not in places}
        self._seen: dict[str, Look] = {}

    # ── all but checkpoints ───────────────────────────────────────────────────────────────────

    def push(self, *, final: bool, tell: bool = True) -> None:
        """Copy what has changed.

        final  nothing changes any more: everything is copied, however large
        tell   copy the state and the manifest too
        """
        # As they are before the rest is copied: a state never speaks of lines that are not there.
        last = list(self._last(final=final)) if tell else []
        seen: dict[str, Look] = {}
        changed = []
        for path in files_below(self.home):
            name = str(path)
            if name in OWN or name in LAST or checkpoint_of(name, self._rule) is not None:
                continue
            with contextlib.suppress(FileNotFoundError):
                now = seen[name] = _look(self.home / path)
                settled = final or now[0] <= SMALL_BYTES or self._seen.get(name) == now
                if settled and now not in (self._pushed.get(name), self._given.get(name)):
                    changed.append((name, now))
        self._seen = seen
        each(self._copy, changed)
        if final:
            self._drop_removed(seen)
        for name, now, content in last:
            self._objects.write(of_job(self._job, RUN, name), content)
            self._pushed[name] = now

    def _copy(self, file: tuple[str, Look]) -> None:
        name, now = file
        try:
            self._objects.put(of_job(self._job, RUN, name), self.home / name)
        except FileNotFoundError:
            if (self.home / name).exists():
                raise  # it is the bucket that is not there
            return
        self._pushed[name] = now

    def _drop_removed(self, there: dict[str, Look]) -> None:
        """What the job itself has taken away since it was copied."""
        for name in set(self._pushed) - set(there) - OWN - set(LAST):
            if checkpoint_of(name, self._rule) is None:
                self._objects.drop(of_job(self._job, RUN, name))
                del self._pushed[name]

    def _last(self, *, final: bool) -> Iterator[tuple[str, Look, bytes]]:
        """What is told last, where it has changed. A verdict comes with the final push only."""
        if not final and _phase(self.home / "state.json") in ENDED:
            return
        for name in LAST:
            with contextlib.suppress(FileNotFoundError):
                now = _look(self.home / name)
                content = (self.home / name).read_bytes()
                ended = name == "state.json" and _phase_of(content) in ENDED
                if self._pushed.get(name) != now and (final or not ended):
                    yield name, now, content

    def drop_torn(self) -> None:
        """What lies there of checkpoints that never came whole: it is good for nothing."""
        torn = [
            name
            for name in self._objects.sizes(of_job(self._job, RUN))
            if checkpoint_of(name, self._rule) not in {None, *self._whole}
        ]
        each(lambda name: self._objects.drop(of_job(self._job, RUN, name)), torn)

    # ── checkpoints ───────────────────────────────────────────────────────────────────────────

    def push_checkpoints(self, state: dict[str, Any]) -> None:
        """Copy those that are complete, whole; take away those that the trainer has."""
        rows = [row for row in state.get("checkpoints") or () if row.get("complete")]
        for path in [row["path"] for row in rows]:
            if path not in self._whole:
                self._push_checkpoint(path)
        for path in sorted(self._whole):
            if not (self.home / path).exists() and rows:
                self._objects.drop(of_job(self._job, WHOLE, f"{path}.json"))
                self._objects.remove(of_job(self._job, RUN, path))
                self._whole.discard(path)

    def _push_checkpoint(self, path: str) -> None:
        """All of it, then the list that says so."""
        files: dict[str, tuple[int, str]] = {}

        def one(file: Path) -> None:
            here = self.home / path / file
            before = _look(here)
            sha256 = digest(here)
            self._objects.put(of_job(self._job, RUN, path, str(file)), here)
            if _look(here) != before:
                raise FileNotFoundError(file)  # it was not complete, after all
            files[str(file)] = (before[0], sha256)

        found = files_below(self.home / path)
        try:
            each(one, found)
        except FileNotFoundError:
            # The trainer has removed or changed it meanwhile: it is looked at again.
            return
        if len(files) == len(found) > 0:
            content = json.dumps(files).encode()
            self._objects.write(of_job(self._job, WHOLE, f"{path}.json"), content)
            self._whole.add(path)


def _look(path: Path) -> Look:
    seen = path.stat()
    return seen.st_size, seen.st_mtime_ns


def _phase(path: Path) -> str:
    try:
        return _phase_of(path.read_bytes())
    except OSError:
        return ""


def _phase_of(content: bytes) -> str:
    try:
        return str(json.loads(content)["phase"])
    except (ValueError, KeyError, TypeError):
        return ""
