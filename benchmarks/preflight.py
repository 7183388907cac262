"""How many mistakes preflight finds, on the right line, and how many sound recipes it refuses.

    python -m benchmarks.preflight             the figures of README.md
    python -m benchmarks.preflight --list      also every mistake that was missed
    python -m benchmarks.preflight --axolotl PYTHON   also what axolotl's own validation says

The corpus is made in code, with seeds, and one mistake in each recipe. Some of it is drawn by
chance (`preflight_broken._typo`), some cannot be seen from here, and counts as missed all the same.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from backends.errors import Refused
from benchmarks.measure import keep
from benchmarks.preflight_broken import Mistake, broken
from benchmarks.preflight_good import Case, aged, good
from launcher import preflight, recipe
from launcher.migrate import migrate
from launcher.preflight import Problem

_PLACE = re.compile(r"^(.+?:\d+)(?::\d+)?: ")
_ROWS = 10_000
_MANY_ROWS = 1_000_000


def examine(case: Case, folder: Path) -> list[Problem]:
    """What preflight says of a case, laid into a folder; a recipe that cannot be read, too."""
    for name, text in case.files.items():
        (folder / name).write_text(text)
    (folder / "r.yml").write_text(case.text)
    try:
        found, look = preflight.examined(recipe.load("r.yml", cwd=folder))
    except Refused as refused:
        place = _PLACE.match(refused.message)
        where = place[1] if place else ""
        return [Problem("error", where, refused.message, refused.hint)]
    return found + preflight.on_targets(look, [(case.gpu, case.gpus)], spot=case.spot)


def caught(mistake: Mistake, sound: set[str], folder: Path) -> Problem | None:
    """What tells of the mistake at its place; `sound` is what was said before it was made."""
    said = [p for p in examine(mistake.case, folder) if p.where == mistake.where]
    return next((p for p in said if p.message not in sound), None)


def main(argv: Sequence[str]) -> None:
    """Measure, print and keep."""
    sound, mistakes = good(), broken()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        said = {case.name: examine(case, folder) for case in sound}
        wrong = [(n, p) for n, found in said.items() for p in found if p.severity == "error"]
        found = [(m, caught(m, {p.message for p in said[m.case.name]}, folder)) for m in mistakes]
        missed = [m for m, problem in found if problem is None]
        seconds = timed(folder)
        few, many = (peak(folder, rows) for rows in (_ROWS, _MANY_ROWS))
    share = 1 - len(missed) / len(mistakes)
    errors = sum(p is not None and p.severity == "error" for _, p in found)
    figures = {
        "mistakes": len(mistakes),
        "kinds": len({m.kind for m in mistakes}),
        "caught": len(mistakes) - len(missed),
        "as_errors": errors,
        "share": round(share, 4),
        "sound": len(sound),
        "warnings_on_sound": sum(len(each) for each in said.values()) - len(wrong),
    }
    if "--list" in argv:
        for m in missed:
            print(f"missed: {m.kind} in {m.case.name}, at {m.where}")
        for case_name, problem in wrong:
            print(f"wrong: {case_name}: {problem}")
    keep("preflight: mistakes missed", figures, limit=0.05, value=round(1 - share, 4))
    keep("preflight: sound recipes refused", {"sound": len(sound)}, limit=0, value=len(wrong))
    keep(
        "preflight: 10,000 rows, seconds",
        {"rows": _ROWS, "seconds": round(seconds, 3)},
        limit=0.5,
        value=round(seconds, 3),
    )
    keep(
        "preflight: a million rows, MiB above ten thousand",
        {"few": _ROWS, "few_mib": few, "many": _MANY_ROWS, "many_mib": many},
        limit=8,
        value=round(many - few, 1),
    )
    if "--axolotl" in argv:
        python = argv[list(argv).index("--axolotl") + 1]
        against_axolotl(python, sound, mistakes)
        migrated(python, sound)


_LOOKER = """
import sys
from pathlib import Path
from launcher import preflight, recipe
found, look = preflight.examined(recipe.load("big.yml", cwd=Path(sys.argv[1])))
assert not found, found
assert preflight.lengths(look)
# Not ru_maxrss: it is handed on through fork and exec, and would be the parent's.
told = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
print(int(told["VmHWM"].split()[0]) / 1024)
"""


def peak(folder: Path, rows: int) -> float:
    """MiB at the peak of a process that looks at a recipe with so many rows, no two alike."""
    text = "base_model: o/m\nsequence_len: 64\ndatasets: [{path: big.jsonl, type: alpaca}]\n"
    (folder / "big.yml").write_text(text + "micro_batch_size: 1\nlearning_rate: 0.1\n")
    with (folder / "big.jsonl").open("w") as file:
        for number in range(rows):
            row = {"instruction": f"Say {number}.", "input": "", "output": f"It is {number}."}
            file.write(json.dumps(row) + "\n")
    argv = [sys.executable, "-c", _LOOKER, str(folder)]
    ended = subprocess.run(argv, capture_output=True, text=True, check=True)
    return round(float(ended.stdout), 1)


def timed(folder: Path) -> float:
    """CPU seconds to look at a recipe with 10,000 rows of conversation: the best of five."""
    turn = {"role": "user", "content": "What is the capital of a country, and why? " * 4}
    answer = {"role": "assistant", "content": "It is a town, and there are reasons. " * 8}
    row = json.dumps({"messages": [turn, answer]})
    case = next(case for case in good() if case.name.startswith("full"))
    big = Case("big", case.lines, {"chat.jsonl": f"{row}\n" * _ROWS})
    best = float("inf")
    for _ in range(5):
        began = time.process_time()
        examine(big, folder)
        best = min(best, time.process_time() - began)
    return best


_WORKER = """
import json, os, sys
os.environ.update(AXOLOTL_DO_NOT_TRACK="1", HF_HUB_OFFLINE="1")
import yaml
from axolotl.utils.config import prepare_plugins, validate_config
from axolotl.utils.dict import DictDefault
CC = {"A100-80GB": "sm_80", "T4": "sm_75", "L4": "sm_89"}
for line in sys.stdin:
    text, gpu, gpus = json.loads(line)
    new = gpu != "T4"
    can = {"bf16": new, "fp8": False, "tf32": new, "n_gpu": gpus, "compute_capability": CC[gpu]}
    try:
        config = DictDefault(yaml.safe_load(text))
        prepare_plugins(config)
        validate_config(config, capabilities=can, env_capabilities={"torch_version": "2.13.0"})
    except BaseException as error:
        print("::", json.dumps(f"{type(error).__name__}: {error}"), flush=True)
    else:
        print("::", json.dumps(""), flush=True)
"""


def against_axolotl(python: str, sound: list[Case], mistakes: list[Mistake]) -> None:
    """Print which sound recipes axolotl refuses, and how many mistakes its validation refuses."""
    told = _asked(python, [(c.text, c) for c in (*sound, *(m.case for m in mistakes))])
    for case, error in zip(sound, told, strict=False):
        if error:
            print(f"axolotl refuses the sound {case.name}: {error[:200]}")
    refused = sum(bool(error) for error in told[len(sound) :])
    print(f"axolotl's own validation refuses {refused} of {len(mistakes)} mistakes")


def migrated(python: str, sound: list[Case]) -> None:
    """Print how many recipes of 2024 axolotl refuses, before `ftlaunch migrate` and after."""
    old = [(aged(case), case) for case in sound]
    new = []
    with tempfile.TemporaryDirectory() as name:
        for text, case in old:
            for file, rows in case.files.items():
                (Path(name) / file).write_text(rows)
            (Path(name) / "r.yml").write_text(text)
            new.append((migrate("r.yml", cwd=Path(name)).after, case))
    refused = [sum(map(bool, _asked(python, each))) for each in (old, new)]
    print(f"of {len(old)} recipes of 2024 axolotl refuses {refused[0]}, migrated {refused[1]}")


def _asked(python: str, texts: Sequence[tuple[str, Case]]) -> list[str]:
    """What axolotl says of each text, on the case's GPU; empty when it takes it."""
    asked = "".join(json.dumps([text, case.gpu, case.gpus]) + "\n" for text, case in texts)
    answer = subprocess.run(
        [python, "-c", _WORKER], input=asked, capture_output=True, text=True, check=True,
        env={**os.environ, "TRANSFORMERS_VERBOSITY": "error"},
    )  # fmt: skip
    told = [json.loads(line[3:]) for line in answer.stdout.splitlines() if line.startswith(":: ")]
    assert len(told) == len(texts), answer.stderr[-2000:]
    return told


if __name__ == "__main__":
    main(sys.argv[1:])
