"""How well the estimator does on measurements that others published.

    python benchmarks/estimator.py --rows FILE.csv --json     one JSON object for each row
    python benchmarks/estimator.py --rehearse                 every source, by a fit without it

The rows' columns are told in docs/estimating.md. A row is read as what was trained how on what; no
measured value is looked at before the estimate is made.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a file
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from backends.errors import FtlaunchError
from benchmarks import estimator_fit as fitting
from benchmarks import estimator_rows as rows
from launcher.estimate import Range, memory, speed
from launcher.estimate.fitted import FITTED

DATA = Path(__file__).with_name("data")

Misses = fitting.Misses


def answer(row: rows.Row) -> dict[str, Any]:
    """The estimate for one row; `error` says why there is none.

    peak_gib     GiB on a GPU as the allocator counts it, as it holds it, and as the driver shows it
    *_80         [low, high] of the range that holds the truth in 80 % of cases
    """
    found: dict[str, Any] = {"row_id": row.get("row_id", "")}
    try:
        asked = rows.measured(row)
        room = memory(asked.shape, asked.setup, asked.gpu, asked.count)
        pace = speed(asked.shape, asked.setup, asked.gpu, asked.count).tokens_per_s
    except FtlaunchError as error:
        return found | {"error": f"{error.message}; {error.hint}"}
    peaks = {"alloc": room.alloc, "reserved": room.reserved, "nvml": room.nvml}
    return found | {
        "peak_gib": {name: round(each.middle, 3) for name, each in peaks.items()},
        "peak_gib_80": {name: _ends(each) for name, each in peaks.items()},
        "fits": room.verdict != "no",
        "verdict": room.verdict,
        "tokens_per_s_per_gpu": round(pace.middle, 2),
        "tokens_per_s_per_gpu_80": _ends(pace),
        "shape": asked.shape.source,
    }


def _ends(found: Range) -> list[float]:
    return [round(found.low, 3), round(found.high, 3)]


def rehearsal(folder: Path) -> Iterator[str]:
    """Lines that tell how each source is met by a fit that never saw it."""
    tables = (
        ("memory", fitting.MEMORY, fitting.OF_MEMORY, fitting.predicted_memory),
        ("tokens/s", fitting.SPEED, fitting.OF_SPEED, fitting.predicted_speed),
    )
    kept = dict(FITTED)
    for title, file, names, predict in tables:
        FITTED.update(fitting.PRIOR)
        found = fitting.usable(folder / file)
        yield f"{title}: leave one source out, {len(found)} rows"
        yield from _told(fitting.held_out(names, found, predict), counted=title == "memory")
    FITTED.update(kept)
    yield from _room(folder / fitting.MEMORY)
    yield from _own(folder)


def _told(misses: Misses, *, counted: bool) -> Iterator[str]:
    """A line a source, and one for all; `counted`: ranges are told by one GPU and several."""
    heads = "".join(f"{head:>9}" for head in ("p90", "in 15 %", "signed", "in range"))
    yield f"  {'source':<14}{'rows':>5}{'median':>9}{heads}"
    inside = 0
    for group in fitting.sources(row for row, _ in misses):
        own = [each for each in misses if each[0].group == group]
        others = [each for each in misses if each[0].group != group]
        if counted:
            one, many = fitting.by_count(own)
            alone, several = fitting.by_count(others)
            held = _inside(one, fitting.ends(alone, fitting.WIDER))
            held += _inside(many, fitting.ends(several))
        else:
            held = _inside(own, fitting.ends(others, fitting.WIDER))
        inside += held
        yield _line(group, own, held / len(own))
    yield _line("all", misses, inside / len(misses))
    yield f"  mean of the sources' medians {fitting.score(misses).of_sources:.1%}"


def _inside(misses: Misses, between: tuple[float, float]) -> int:
    return sum(between[0] <= math.exp(-miss) <= between[1] for _, miss in misses)


def _line(name: str, misses: Misses, inside: float, wide: int = 14) -> str:
    told = fitting.score(misses)
    return (
        f"  {name:<{wide}}{told.rows:>5}{told.median:>9.1%}{told.p90:>9.1%}{told.within_15:>9.0%}"
        f"{told.signed:>+9.1%}{inside:>9.0%}"
    )


def _room(path: Path) -> Iterator[str]:
    """Out-of-memory rows that are caught, and rows that ran and are refused."""
    asked = [rows.measured(row) for row in rows.read(path) if row["quality"] in ("A", "B")]
    said = [(each, memory(each.shape, each.setup, each.gpu, each.count)) for each in asked]
    out = [told.verdict for each, told in said if not each.fits]
    ran = [told.verdict for each, told in said if each.fits and each.scored]
    yield f"out of memory: {out.count('no')} of {len(out)} caught"
    yield f"ran: {ran.count('no')} of {len(ran)} refused falsely"


FULL = 8192
"""Tokens of a micro batch from which on the GPU, and not the processor, was the limit there."""


def _own(folder: Path) -> Iterator[str]:
    """How our own measurements are met by the constants as they ship."""
    yield "our own rows, on one H100, to which no constant of speed is fitted:"
    yield f"  {'':<34}{'rows':>5}{'median':>9}{'p90':>9}{'in 15 %':>9}{'signed':>9}{'in range':>9}"
    room = fitting.usable(folder / fitting.OWN_MEMORY)
    pace = fitting.usable(folder / fitting.OWN_SPEED)
    tables = (
        ("memory, trainer", [row for row in room if "trainer" in row.group], True),
        ("memory, axolotl itself", [row for row in room if "axolotl" in row.group], True),
        ("tokens/s", pace, False),
        (
            f"tokens/s, {FULL:,} tokens or more",
            [row for row in pace if row.setup.tokens >= FULL],
            False,
        ),
    )
    for title, found, memories in tables:
        predict = fitting.predicted_memory if memories else fitting.predicted_speed
        misses = [(row, fitting.error(row, predict)) for row in found]
        ends = [FITTED[f"{'memory' if memories else 'speed'}_{end}"] for end in ("low", "high")]
        yield _line(title, misses, _inside(misses, (ends[0], ends[1])) / len(misses), wide=34)


def main(argv: Sequence[str] | None = None) -> int:
    """Answer rows or rehearse."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--rows", type=Path, help="a table of measurements")
    parser.add_argument("--json", action="store_true", help="one JSON object a line (the default)")
    parser.add_argument("--rehearse", action="store_true", help="leave one source out")
    parser.add_argument("--data", type=Path, default=DATA, help="where the rehearsal's tables are")
    given = parser.parse_args(argv)
    if given.rehearse:
        for line in rehearsal(given.data):
            print(line, flush=True)
        return 0
    if given.rows is None:
        parser.error("say --rows FILE.csv or --rehearse")
    if not given.rows.is_file():
        print(f"{given.rows} is not a file", file=sys.stderr)
        return 2
    for row in rows.read(given.rows):
        print(json.dumps(answer(row)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
