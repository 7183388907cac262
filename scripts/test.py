"""Run the tests in stages, each with a budget, and say at the end how long each took.

    python scripts/test.py [STAGE ...]     all stages when none is named
    python scripts/test.py --list

A stage that fails does not stop the others; the exit code is 1 if any did. A stage over its budget
is marked, and does not fail: a busy machine decides nothing.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHON = sys.executable
GROUPED = ("-n", "2", "--dist", "loadscope")
"""On both cores, as `tests/support/grouping.py` has them together: all of SkyPilot on one."""
CODE = ["launcher", "backends", "scripts", "tests", "benchmarks"]


@dataclass(frozen=True)
class Stage:
    """One stage: its commands run in order, and all must succeed.

    budget_s  what it should take on two idle cores
    tests     its folder; where that holds no test there is no such stage
    """

    name: str
    budget_s: int
    commands: tuple[tuple[str, ...], ...]
    tests: str = ""

    @property
    def there(self) -> bool:
        """False for a tier that has no tests."""
        return not self.tests or any((ROOT / self.tests).rglob("test_*.py"))


@dataclass(frozen=True)
class Outcome:
    """How a stage ended."""

    stage: Stage
    passed: bool
    took_s: float


def tool(name: str, *arguments: str) -> tuple[str, ...]:
    """A command of the environment this script runs in."""
    return (str(Path(PYTHON).with_name(name)), *arguments)


def pytest(folder: str, *arguments: str) -> tuple[str, ...]:
    """The tests of one folder; with `-n 2` on both cores."""
    return (PYTHON, "-m", "pytest", folder, "-q", *arguments)


def stages() -> list[Stage]:
    """All stages, in order."""
    code = [folder for folder in CODE if (ROOT / folder).is_dir()]
    return [
        Stage("style", 5, (tool("ruff", "check", *code), tool("ruff", "format", "--check", *code))),
        Stage("types", 35, (tool("mypy", *code),)),
        Stage("imports", 5, (tool("lint-imports"),)),
        Stage("locks", 5, ((PYTHON, "scripts/lock_axolotl.py", "--check"),)),
        Stage("unit", unit_budget_s(), (pytest("tests/unit", "-n", "2"),), "tests/unit"),
        # A real sshd and a machine's own programs: too slow for the quick checks.
        Stage("machines", 150, (pytest("tests/machines", "-n", "2"),), "tests/machines"),
        Stage("environment", 120, (tool("ftlaunch", "env", "make", "--cpu"),)),
        Stage("conformance", 700, (pytest("tests/conformance", *GROUPED),), "tests/conformance"),
        Stage("stranger", 120, (pytest("tests/stranger"),), "tests/stranger"),
        Stage("clouds", 300, (pytest("tests/clouds", "-n", "2"),), "tests/clouds"),
        Stage(
            "e2e",
            1200,
            (pytest("tests/e2e", *GROUPED, "--timeout", "900"),),
            "tests/e2e",
        ),
        Stage("faults", 600, (pytest("tests/faults", *GROUPED),), "tests/faults"),
    ]


def unit_budget_s() -> int:
    """The quick checks try the runner under one Python, the whole test under all it promises."""
    return 70 if os.environ.get("FTLAUNCH_TEST_PYTHONS") == "this" else 170


def run(stage: Stage) -> Outcome:
    """Run one stage, its output going straight through."""
    print(f"\n=== {stage.name} (budget {clock(stage.budget_s)})", flush=True)
    began = time.monotonic()
    passed = True
    for command in stage.commands:
        if subprocess.run(command, cwd=ROOT, env=surroundings(), check=False).returncode != 0:
            passed = False
    return Outcome(stage, passed, time.monotonic() - began)


def surroundings() -> dict[str, str]:
    """The variables of the tests: the tools of this environment first on PATH."""
    path = os.pathsep.join([str(Path(PYTHON).parent), os.environ.get("PATH", os.defpath)])
    return {**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1"}


def summary(outcomes: Sequence[Outcome]) -> str:
    """A line for each stage, and the total."""
    lines = ["", "stage         result  took     budget"]
    for outcome in outcomes:
        over = "  over" if outcome.took_s > outcome.stage.budget_s else ""
        result = "passed" if outcome.passed else "FAILED"
        took, budget = clock(outcome.took_s), clock(outcome.stage.budget_s)
        lines.append(f"{outcome.stage.name:<12}  {result}  {took:>6}   {budget:>6}{over}")
    all_took = sum(outcome.took_s for outcome in outcomes)
    all_budget = sum(outcome.stage.budget_s for outcome in outcomes)
    failed = [outcome.stage.name for outcome in outcomes if not outcome.passed]
    result = "FAILED" if failed else "passed"
    lines.append(f"{'all':<12}  {result}  {clock(all_took):>6}   {clock(all_budget):>6}")
    if failed:
        lines.append(f"failed: {', '.join(failed)}; one again: make test STAGES={failed[0]}")
    return "\n".join(lines)


def clock(seconds: float) -> str:
    """Seconds as M:SS."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def main(arguments: Sequence[str]) -> int:
    """Run the stages named in `arguments`, or all."""
    every = [stage for stage in stages() if stage.there]
    if list(arguments) == ["--list"]:
        print("\n".join(f"{stage.name:<12} {clock(stage.budget_s)}" for stage in every))
        return 0
    unknown = set(arguments) - {stage.name for stage in every}
    if unknown:
        print(f"no such stage: {', '.join(sorted(unknown))}; there are:", file=sys.stderr)
        print(" ".join(stage.name for stage in every), file=sys.stderr)
        return 2
    chosen = [stage for stage in every if not arguments or stage.name in arguments]
    outcomes = [run(stage) for stage in chosen]
    print(summary(outcomes), flush=True)
    return 0 if all(outcome.passed for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
