"""The main job, from nothing to a pulled artifact: what `make demo` runs.

Fine-tunes the bundled quickstart here, then asks the model, before and after, for the held-out
questions it was never shown, and says how many answers are JSON and how many are exactly right.
Exits 1 when fewer than 80 % of the tuned model's answers parse.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from launcher.bundled import configs_dir
from launcher.scoring import Score, score

AT_MOST = 24
PASS_SHARE = 0.8
ANSWER_TOKENS = 72
"""Longer than any right answer; the untuned model would ramble on."""


def main() -> int:
    """Run the demo; returns its exit code."""
    began = time.monotonic()
    with (configs_dir() / "data/quickstart/heldout.jsonl").open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file][:AT_MOST]
    name = f"demo-{time.strftime('%m%d-%H%M%S')}"
    _heading("1. fine-tune SmolLM2-135M-Instruct here, merge it, pull it")
    _ftlaunch("train", "quickstart", "--name", name)
    _heading("2. ask the model as it was, and as it is now")
    with tempfile.TemporaryDirectory() as folder:
        prompts = Path(folder) / "heldout.jsonl"
        prompts.write_text("".join(json.dumps({"prompt": row["prompt"]}) + "\n" for row in rows))
        before = _answers(name, prompts, Path(folder) / "before.jsonl", "--base")
        after = _answers(name, prompts, Path(folder) / "after.jsonl")
    expected = [str(row["expected"]) for row in rows]
    _show(rows, before, after)
    was = score(zip(expected, before, strict=True))
    now = score(zip(expected, after, strict=True))
    _heading("3. what it learnt")
    print(f"{len(rows)} questions it was never shown    before   after")
    for what, then, since in (
        ("parse as JSON", was.parsed_share, now.parsed_share),
        ("are exactly right", was.exact_share, now.exact_share),
    ):
        print(f"  answers that {what:<21} {then:6.0%}  {since:6.0%}")
    _heading("4. what you have")
    for path in sorted(Path("runs", name).rglob("*")):
        if path.is_file():
            print(f"  {path.stat().st_size:>12,}  {path}")
    print(f"\n{(time.monotonic() - began) / 60:.1f} minutes in all")
    return _verdict(now)


def _verdict(now: Score) -> int:
    if now.parsed_share < PASS_SHARE:
        print(f"the demo failed: fewer than {PASS_SHARE:.0%} of the answers parse")
        return 1
    return 0


def _heading(text: str) -> None:
    print(f"\n=== {text}", flush=True)


def _ftlaunch(*argv: str) -> None:
    command = [str(Path(sys.executable).with_name("ftlaunch")), *argv]
    print("$ ftlaunch " + " ".join(argv), flush=True)
    code = subprocess.run(command, check=False).returncode
    if code:
        sys.exit(code)


def _answers(name: str, prompts: Path, output: Path, *options: str) -> list[str]:
    how = ["--max-new-tokens", str(ANSWER_TOKENS), "--repetition-penalty", "1.0"]
    how += ["--batch-size", str(AT_MOST), *options]
    _ftlaunch("inference", name, "--prompts", str(prompts), "-o", str(output), *how)
    rows = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    return [str(row.get("answer", row.get("error", ""))) for row in rows]


def _show(rows: list[dict[str, str]], before: list[str], after: list[str]) -> None:
    for row, was, now in zip(rows, before, after, strict=True):
        print(f"\nasked     {_one_line(row['prompt'], 110)}")
        print(f"  before  {_one_line(was, 110)}")
        print(f"  after   {_one_line(now, 220)}")
        print(f"  right   {_one_line(str(row['expected']), 220)}")


def _one_line(text: str, width: int) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= width else flat[: width - 1] + "…"


if __name__ == "__main__":
    sys.exit(main())
