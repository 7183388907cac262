"""Run every fault test in its full size, in pieces, so that it can be stopped and gone on with.

    python scripts/faults.py           go on with this commit's run, or begin one
    python scripts/faults.py --fresh   begin anew
    python scripts/faults.py PATH      only what is there: the kept result of the whole stays

The result, with its seed and commit, is kept in `tests/faults/results.json`, and what the clouds'
cases measured in `tests/faults/CLOUD/results.json` of `jarvis`, `modal` and `skypilot`. A run of
another commit or seed begins anew; a case that has passed is not run again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "tests" / "faults" / "results.json"
SOME = ROOT / "tests" / "faults" / ".some-results.json"
"""Where a run of some cases stands; not to be committed."""
TABLES = {
    f"{cloud} fault": ROOT / "tests" / "faults" / cloud / "results.json"
    for cloud in ("jarvis", "modal", "skypilot")
}
"""By the property that a case says its row under."""
SLURM_MEANS = (
    "Seconds are of this machine's clock. They count from the moment the last results were here "
    "and verified (the launcher's journal) until Slurm had no allocation of ours but those that "
    "it was ending, looked at five times a second; `-` where nothing was rented: a verb that "
    "looks, or a guest on the user's cluster. SkyPilot's own time to take a cluster down is in "
    "them."
)
sys.path[:0] = [str(ROOT / "tests" / "support"), str(ROOT / "tests"), str(ROOT)]

from jarvis_faults.report import (  # noqa: E402
    LINE,
    MEANS,
    from_groups,
    groups,
    key,
    summary,
    table,
)

SEED = "20260101"
PIECE = 60
WORKERS = os.environ.get("FTLAUNCH_FAULTS_WORKERS", "2")
"""Cases wait more than they work: a machine with nothing else to do takes more of them."""


def main(arguments: Sequence[str]) -> int:
    """Run what is left; returns 1 when a case fails."""
    commit = _git("rev-parse", "HEAD")
    dirty = bool(_git("status", "--porcelain", "--untracked-files=no"))
    paths = [argument for argument in arguments if not argument.startswith("-")]
    cases = _collect(paths or ["tests/faults"])
    kept = SOME if paths else RESULTS
    report = _known(kept, commit, paths) if "--fresh" not in arguments else None
    if report is None:
        report = {"commit": commit, "seed": SEED, "dirty": dirty, "failed": [], "passed": []}
        report |= {"paths": paths} if paths else {}
    done = set(report["passed"])
    tables = {name: Rows.known(path, report) for name, path in TABLES.items()}
    left = [case for case in cases if case not in done]
    print(f"{len(cases)} cases, {len(cases) - len(left)} passed before, seed {SEED}, {commit[:12]}")
    began = time.monotonic()
    for start in range(0, len(left), PIECE):
        piece = left[start : start + PIECE]
        passed = _run(piece, tables)
        report["passed"] = sorted({*report["passed"], *passed})
        report["failed"] = sorted({*report["failed"], *piece} - set(report["passed"]))
        report["written_at"] = datetime.now(UTC).isoformat(timespec="seconds")
        _replace(kept, {**report, "total": len(cases)})
        for rows in tables.values():
            rows.keep(report)
        minutes = (time.monotonic() - began) / 60
        print(f"{len(report['passed'])} passed, {len(report['failed'])} failed, {minutes:.1f} min")
    for name, rows in tables.items():
        rows.show(name)
    for case in report["failed"]:
        print(f"FAILED {case}")
    print(f"{len(report['passed'])} passed, {len(report['failed'])} failed")
    return 1 if report["failed"] else 0


class Rows:
    """What the cases of one cloud measured, case by case."""

    def __init__(self, path: Path, rows: list[dict[str, Any]]) -> None:
        self._path = path
        self._rows = rows
        self._means = SLURM_MEANS if path.parent.name == "skypilot" else MEANS

    @classmethod
    def known(cls, path: Path, report: dict[str, Any]) -> Rows:
        """Those of the run that is gone on with; none when it begins."""
        found = _json(path)
        same = found is not None and found.get("commit") == report["commit"]
        if found is None or not same or not report["passed"]:
            return cls(path, [])
        return cls(path, from_groups(found["tried"]))

    def add(self, row: dict[str, Any]) -> None:
        """One more; it takes the place of an earlier try of the same case."""
        self._rows = [one for one in self._rows if key(one) != key(row)] + [row]

    def keep(self, report: dict[str, Any]) -> None:
        """Write them down."""
        head = {name: report[name] for name in ("commit", "dirty", "seed", "written_at")}
        said = {"summary": summary(self._rows), "what_the_lines_say": LINE, "means": self._means}
        if self._rows:
            _replace(self._path, {**head, **said, "tried": groups(self._rows)})

    def show(self, name: str) -> None:
        """Print the table."""
        if self._rows:
            print(f"\n{name}s")
            for line in table(self._rows):
                print(line)


def _environment() -> dict[str, str]:
    return {**os.environ, "FTLAUNCH_FAULTS": "full", "FTLAUNCH_FAULTS_SEED": SEED}


def _collect(paths: Sequence[str]) -> list[str]:
    argv = [sys.executable, "-m", "pytest", *paths, "--collect-only", "-q"]
    listed = subprocess.run(
        argv, cwd=ROOT, env=_environment(), capture_output=True, text=True, check=True
    )
    return [line for line in listed.stdout.splitlines() if "::" in line]


def _run(cases: Sequence[str], tables: Mapping[str, Rows]) -> set[str]:
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        argv = [sys.executable, "-m", "pytest", "-q", "-n", WORKERS, f"--junitxml={report}", *cases]
        subprocess.run(argv, cwd=ROOT, env=_environment(), check=False)
        return _passed(report, tables)


def _passed(report: Path, tables: Mapping[str, Rows]) -> set[str]:
    if not report.exists():
        return set()
    found = set()
    for case in ET.parse(report).iter("testcase"):  # noqa: S314 - pytest wrote it
        for said in case.iter("property"):
            if (rows := tables.get(str(said.get("name")))) is not None:
                rows.add(json.loads(str(said.get("value"))))
        if not any(child.tag in {"failure", "error", "skipped"} for child in case):
            file = str(case.get("classname", "")).replace(".", "/") + ".py"
            found.add(f"{file}::{case.get('name')}")
    return found


def _known(kept: Path, commit: str, paths: Sequence[str]) -> dict[str, Any] | None:
    found = _json(kept)
    same = {"commit": commit, "seed": SEED, "paths": list(paths)}
    return found if found is not None and {"paths": [], **found}.items() >= same.items() else None


def _json(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _replace(path: Path, content: dict[str, Any]) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=1) + "\n")
    partial.replace(path)


def _git(*argv: str) -> str:
    answer = subprocess.run(["git", *argv], cwd=ROOT, capture_output=True, text=True, check=True)
    return answer.stdout.strip()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
