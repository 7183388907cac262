"""Timing two commands in turn, and keeping what was measured."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

RESULTS = Path(__file__).with_name("results.json")


def seconds(argv: Sequence[str], *, env: Mapping[str, str] | None = None) -> float:
    """Wall seconds of one run of a command, which must succeed."""
    began = time.perf_counter()
    subprocess.run(
        list(argv), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env
    )
    return time.perf_counter() - began


def ratio(
    ours: Callable[[], float], peer: Callable[[], float], *, runs: int, warmup: int = 1
) -> dict[str, float | int]:
    """Both in turn; the median of the ratios of neighbours, and each one's median seconds."""
    for _ in range(warmup):
        ours()
        peer()
    pairs = [(ours(), peer()) for _ in range(runs)]
    ratios = sorted(a / b for a, b in pairs)
    return {
        "ratio": round(statistics.median(ratios), 3),
        "lowest": round(ratios[0], 3),
        "highest": round(ratios[-1], 3),
        "ours_s": round(statistics.median(a for a, _ in pairs), 3),
        "peer_s": round(statistics.median(b for _, b in pairs), 3),
        "runs": runs,
    }


def keep(name: str, figures: Mapping[str, object], *, limit: float, value: float) -> None:
    """Print one claim's figures and store them; says plainly when the claim does not hold."""
    holds = value <= limit
    print(f"{name}: {value} (at most {limit}) {'holds' if holds else 'DOES NOT HOLD'}")
    print(f"  {json.dumps(dict(figures))}", flush=True)
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    known[name] = {**figures, "limit": limit, "holds": holds, "machine": machine()}
    RESULTS.write_text(json.dumps(known, indent=2, sort_keys=True) + "\n")


def machine() -> str:
    """What it was measured on, without naming whose it is."""
    return f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
