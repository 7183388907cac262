"""The rows of local JSON data: whether each can be read, and has the fields its type needs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.preflight.fields import Complaint, RowCheck, check_of
from launcher.preflight.jsonrows import BrokenRow, Row, is_packed_unread, rows
from launcher.preflight.lengths import SURELY, Counted, Measure, count, limit, measure_of
from launcher.preflight.problem import Look, Problem
from launcher.recipe import keypath
from launcher.recipe.overrides import format_axolotl_takes, format_of
from launcher.recipe.references import Fate, Kind, Reference, is_vast
from launcher.wording import shown

_ENOUGH = 3
"""Problems told of one file: the rest are mostly the same one."""


def data_rows(look: Look) -> Iterator[Problem]:
    """Broken rows, rows without their fields, files without rows."""
    entries: dict[tuple[str | int, ...], dict[str, Any]] = dict(look.datasets())
    seen: set[tuple[Path, int]] = set()
    for ref in look.references:
        entry = entries.get(ref.key[:2])
        if ref.kind is not Kind.DATA or ref.fate is not Fate.LOCAL or entry is None:
            continue
        check = check_of(look.config, entry, str(ref.key[0]))
        for path, name in _files(ref, entry):
            if (path, id(entry)) not in seen:
                seen.add((path, id(entry)))
                counted = look.tally.sets.setdefault(ref.key[:2], Counted())
                counting = _Counting(counted, measure_of(entry), limit(look.config))
                yield from _file_problems(path, name, check, counting)


@dataclass(frozen=True)
class _Counting:
    """What is counted while a file is read."""

    counted: Counted
    measure: Measure
    most: int

    def add(self, value: Any) -> None:
        row = {"text": value} if isinstance(value, str) else value
        if isinstance(row, dict):
            count(self.counted, self.measure(row), self.most)


def too_long(look: Look) -> Iterator[Problem]:
    """Rows that are longer than `sequence_len`: axolotl leaves them out, or cuts them."""
    strategy = look.config.get("excess_length_strategy") or "drop"
    does = {"truncate": "cuts them", "raise": "fails at them"}.get(str(strategy), "drops them")
    for at, counted in look.tally.sets.items():
        if counted.surely:
            most = limit(look.config)
            yield look.warning(
                ("sequence_len",),
                f"{counted.surely:,} of the {counted.rows:,} rows of {keypath.spell(at)} are over "
                f"{SURELY} bytes for each of the {most:,} tokens of sequence_len, and at most "
                f"{counted.maybe:,} are longer than it in tokens: axolotl {does}",
                "raise sequence_len, or split the rows",
            )


def lengths(look: Look) -> Iterator[str]:
    """For each data set that was read, a bound on the rows that are too long, in one sentence."""
    for at, counted in look.tally.sets.items():
        if counted.rows:
            yield (
                f"{keypath.spell(at)}: {counted.rows:,} rows, of which at most {counted.maybe:,} "
                f"are longer than sequence_len {limit(look.config):,} (a token is a byte at least)"
            )


def not_read(look: Look) -> Iterator[str]:
    """Data of the recipe that `data_rows` passes over, each with why."""
    entries: dict[tuple[str | int, ...], dict[str, Any]] = dict(look.datasets())
    for ref in look.references:
        if ref.kind is not Kind.DATA:
            continue
        entry = entries.get(ref.key[:2], {})
        if ref.fate is Fate.HUB:
            yield f"hub data set {shown(ref.text)}"
        elif ref.fate is Fate.REMOTE:
            yield f"{shown(ref.text)} (it is not on this machine)"
        elif ref.fate is Fate.LOCAL and not (ref.paths[0].is_dir() and entry.get("data_files")):
            read = {path for path, _ in _files(ref, entry)}
            if not read:
                yield f"{shown(ref.text)} (only JSON is read)"
            for path in sorted(read):
                if is_packed_unread(path):
                    yield f"{shown(path.name)} (it is packed in a way that is not opened here)"


def _files(ref: Reference, entry: dict[str, Any]) -> Iterator[tuple[Path, str]]:
    """The JSON files of a reference, with their names in messages."""
    given = str(entry.get("ds_type") or "")
    for path in ref.paths:
        if path.is_file():
            name = ref.text if len(ref.paths) == 1 else str(path)
            if (given or format_of(name) or format_axolotl_takes(name)) == "json":
                yield path, shown(name)
        elif path.is_dir() and not entry.get("data_files") and not is_vast(path):
            for folder, below, names in os.walk(path):
                below[:] = sorted(each for each in below if not each.startswith((".", "_")))
                for each in sorted(names):
                    file = Path(folder) / each
                    if each.endswith((".jsonl", ".jsonl.gz")) and file.is_file():
                        yield file, shown(Path(ref.text) / file.relative_to(path))


def _file_problems(
    path: Path, name: str, check: RowCheck | None, counting: _Counting
) -> Iterator[Problem]:
    if is_packed_unread(path):
        counting.counted.whole = False
        return
    try:
        if path.stat().st_size == 0:
            yield Problem("error", name, "the data file is empty")
            return
        yield from _row_problems(path, name, check, counting)
    except OSError as problem:
        yield Problem("error", name, f"it cannot be read: {problem.strerror or problem}")


def _row_problems(
    path: Path, name: str, check: RowCheck | None, counting: _Counting
) -> Iterator[Problem]:
    found, row = 0, None
    doubts: set[str] = set()  # one row stands for all that are odd in the same way
    try:
        for row in rows(path):
            counting.add(row.value)
            complaint = _complaint(row, check)
            if complaint is None:
                continue
            where = _at(name, row.number, row.line)
            if complaint.severity == "warning":
                if complaint.message not in doubts:
                    doubts.add(complaint.message)
                    yield Problem("warning", where, complaint.message, complaint.fix)
                continue
            found += 1
            yield Problem("error", where, complaint.message, complaint.fix)
            if found == _ENOUGH:
                counting.counted.whole = False
                return
    except BrokenRow as broken:
        counting.counted.whole = False
        where = _at(name, broken.number, broken.line)
        yield Problem("error", where, f"this row is not valid JSON: {broken}", "mend or remove it")
        return
    if row is None:
        yield Problem("error", name, "the data file holds no rows")


def _complaint(row: Row, check: RowCheck | None) -> Complaint | None:
    value = {"text": row.value} if isinstance(row.value, str) else row.value
    if not isinstance(value, dict):
        return Complaint("this row is not a JSON object", "a row is written {…}")
    return check(value) if check else None


def _at(name: str, number: int, line: int) -> str:
    return f"{name} row {number}" + (f" (line {line})" if line != number else "")
