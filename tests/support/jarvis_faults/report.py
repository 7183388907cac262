"""The table of a fault run, and the one line that counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jarvis_faults.cases import Case
from jarvis_faults.outcome import Outcome

PROPERTY = "jarvis fault"
LINE = (
    "machines leaked, jobs whose artifacts are lost, other promises broken, seconds billed after "
    "the last needed byte (-: nothing came home), GPU seconds billed in all, how it ended"
)
MEANS = (
    "Seconds are of this machine's clock. They count from the moment the results were here and "
    "verified (the launcher's journal) until the provider stopped to bill a GPU (the loopback "
    "provider's meter), and hold the fault itself, about a second where it lasts, and the time "
    "until the user's next command, which comes at once. The provider is twenty times as quick as "
    "the real one is assumed to be: of a real machine's end its own slowness is to be added."
)


def key(row: Mapping[str, Any]) -> tuple[str, str, str]:
    """What makes a row the only one of its case."""
    return row["phase"], row["call"], row["fault"]


def groups(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, dict[str, str]]]:
    """The rows as they are kept: phase, call, fault, and one line of what came of it."""
    found: dict[str, dict[str, dict[str, str]]] = {}
    for one in sorted(rows, key=key):
        after = "-" if one["after_s"] is None else f"{one['after_s']:.2f}"
        counts = f"{one['leaked']} {one['lost']} {one['other']}"
        text = f"{counts} {after} {one['billed_s']:.2f} {one['ended']}"
        found.setdefault(one["phase"], {}).setdefault(one["call"], {})[one["fault"]] = text
    return found


def from_groups(kept: Mapping[str, Mapping[str, Mapping[str, str]]]) -> list[dict[str, Any]]:
    """The reverse."""
    rows = []
    for phase, calls in kept.items():
        for call, faults in calls.items():
            for fault, text in faults.items():
                leaked, lost, other, after, billed, ended = text.split(" ", 5)
                counts = {"leaked": int(leaked), "lost": int(lost), "other": int(other)}
                seconds = None if after == "-" else float(after)
                rows.append(
                    {"phase": phase, "call": call, "fault": fault, "ended": ended, **counts,
                     "after_s": seconds, "billed_s": float(billed)}
                )  # fmt: skip
    return rows


def row(case: Case, outcome: Outcome) -> dict[str, Any]:
    """What is kept of a case."""
    call, fault, phase = case.triple
    return {
        "call": call,
        "fault": fault,
        "phase": phase,
        "ended": outcome.ended,
        "leaked": len(outcome.leaked),
        "lost": len(outcome.lost),
        "other": len(outcome.said) + len(outcome.undone),
        "after_s": None if outcome.after_s is None else round(outcome.after_s, 3),
        "billed_s": round(outcome.billed_s, 3),
    }


def table(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A line for each call of each phase: how many faults were tried there, and how they ended."""
    heads = ("faults", "done", "refused", "leaked", "lost", "other")
    yield f"{'phase':<28}{'call or journal step':<34}" + "".join(f"{head:>9}" for head in heads)
    found: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for one in rows:
        found.setdefault((one["phase"], one["call"]), []).append(one)
    for (phase, call), some in sorted(found.items()):
        refused = sum("refused" in one["ended"] for one in some)
        counts = [len(some), len(some) - refused, refused]
        counts += [_sum(some, what) for what in ("leaked", "lost", "other")]
        yield f"{phase:<28}{call:<34}" + "".join(f"{count:>9}" for count in counts)
    yield summary(rows)


def summary(rows: Sequence[Mapping[str, Any]]) -> str:
    """The line that counts."""
    triples = len({(one["call"], one["fault"], one["phase"]) for one in rows})
    after = sorted(one["after_s"] for one in rows if one["after_s"] is not None)
    money = "nothing came home"
    if after:
        money = (
            f"seconds billed after the last needed byte: p50 {percentile(after, 50):.2f}, "
            f"p99 {percentile(after, 99):.2f}, most {after[-1]:.2f} "
            f"(of {len(after)} cases; this machine's clock)"
        )
    return (
        f"{triples} (call, fault, phase) triples: leaked machines {_sum(rows, 'leaked')}, "
        f"lost artifacts {_sum(rows, 'lost')}; {money}"
    )


def percentile(ordered: Sequence[float], which: int) -> float:
    """The least value that so many percent do not exceed."""
    return ordered[max(0, -(-len(ordered) * which // 100) - 1)]


def _sum(rows: Sequence[Mapping[str, Any]], what: str) -> int:
    return sum(int(one[what]) for one in rows)
