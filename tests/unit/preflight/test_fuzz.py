"""A small sample of scripts/fuzz_preflight.py, and that it sees what it is there to see."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[3] / "scripts" / "fuzz_preflight.py"


def test_nothing_breaks_hangs_or_is_written() -> None:
    argv = [sys.executable, str(SCRIPT), "100", "--seed", "3"]
    ended = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert "none broke" in ended.stdout


@pytest.mark.parametrize(
    ("deed", "seen"),
    [
        ("raise KeyError('odd')", "KeyError: 'odd'"),
        ("__import__('os').open('left.txt', 0o101)", "it did something"),
        ("__import__('subprocess').run(['true'])", "it did something"),
        ("__import__('time').sleep(60)", "took longer than"),
        ("while True: pass", "took longer than"),
    ],
)
def test_what_must_not_happen_is_seen(deed: str, seen: str) -> None:
    program = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(SCRIPT.parent)!r})
import fuzz_preflight
from launcher import preflight
fuzz_preflight.LONGEST_S = 0.5 if 'while' in {deed!r} else 20.0
fuzz_preflight.SILENT_S = 0.5 if 'sleep' in {deed!r} else 200.0
def bad(*_, **__):
    {deed}
    return []
preflight.lengths = bad
sys.exit(fuzz_preflight.main(['20']))
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert ended.returncode != 0
    assert seen in ended.stderr
