"""Run every fault test in its full size, in pieces, so that it can be stopped and gone on with.

    python scripts/faults.py           go on with this commit's run, or begin one
    python scripts/faults.py --fresh   begin anew

The result, with its seed and commit, is kept in `tests/faults/results.json`. A run of another
commit or seed begins anew; a case that has passed is not run again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "tests" / "faults" / "results.json"
SEED = "20260101"
PIECE = 60


def main(arguments: Sequence[str]) -> int:
    """Run what is left; returns 1 when a case fails."""
    commit = _git("rev-parse", "HEAD")
    dirty = bool(_git("status", "--porcelain", "--untracked-files=no"))
    cases = _collect()
    report = _known(commit) if "--fresh" not in arguments else None
    if report is None:
        report = {"commit": commit, "seed": SEED, "dirty": dirty, "failed": [], "passed": []}
    done = set(report["passed"])
    left = [case for case in cases if case not in done]
    print(f"{len(cases)} cases, {len(cases) - len(left)} passed before, seed {SEED}, {commit[:12]}")
    began = time.monotonic()
    for start in range(0, len(left), PIECE):
        piece = left[start : start + PIECE]
        passed = _run(piece)
        report["passed"] = sorted({*report["passed"], *passed})
        report["failed"] = sorted({*report["failed"], *piece} - set(report["passed"]))
        _keep(report, total=len(cases))
        minutes = (time.monotonic() - began) / 60
        print(f"{len(report['passed'])} passed, {len(report['failed'])} failed, {minutes:.1f} min")
    for case in report["failed"]:
        print(f"FAILED {case}")
    print(f"{len(report['passed'])} passed, {len(report['failed'])} failed")
    return 1 if report["failed"] else 0


def _environment() -> dict[str, str]:
    return {**os.environ, "FTLAUNCH_FAULTS": "full", "FTLAUNCH_FAULTS_SEED": SEED}


def _collect() -> list[str]:
    argv = [sys.executable, "-m", "pytest", "tests/faults", "--collect-only", "-q"]
    listed = subprocess.run(
        argv, cwd=ROOT, env=_environment(), capture_output=True, text=True, check=True
    )
    return [line for line in listed.stdout.splitlines() if "::" in line]


def _run(cases: Sequence[str]) -> set[str]:
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        argv = [sys.executable, "-m", "pytest", "-q", "-n", "2", f"--junitxml={report}", *cases]
        subprocess.run(argv, cwd=ROOT, env=_environment(), check=False)
        return _passed(report)


def _passed(report: Path) -> set[str]:
    if not report.exists():
        return set()
    found = set()
    for case in ET.parse(report).iter("testcase"):  # noqa: S314 - pytest wrote it
        if not any(child.tag in {"failure", "error", "skipped"} for child in case):
            file = str(case.get("classname", "")).replace(".", "/") + ".py"
            found.add(f"{file}::{case.get('name')}")
    return found


def _known(commit: str) -> dict[str, Any] | None:
    try:
        found = json.loads(RESULTS.read_text())
    except (OSError, ValueError):
        return None
    if not isinstance(found, dict) or found.get("commit") != commit or found.get("seed") != SEED:
        return None
    return found


def _keep(report: dict[str, Any], *, total: int) -> None:
    report["total"] = total
    report["written_at"] = datetime.now(UTC).isoformat(timespec="seconds")
    partial = RESULTS.with_suffix(".partial")
    partial.write_text(json.dumps(report, indent=1) + "\n")
    partial.replace(RESULTS)


def _git(*argv: str) -> str:
    answer = subprocess.run(["git", *argv], cwd=ROOT, capture_output=True, text=True, check=True)
    return answer.stdout.strip()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
