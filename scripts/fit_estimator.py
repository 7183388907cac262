"""Fit the estimator's few constants to published measurements, and write them down.

    python scripts/fit_estimator.py [DIR]   # DIR holds the tables named below

Writes launcher/estimate/tables/fitted.json. What is fitted and why so little: docs/estimating.md.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import estimator_fit as fit  # noqa: E402 - the root is on the path by now
from launcher.estimate import fitted  # noqa: E402


def main() -> None:
    """Fit to all rows, calibrate the ranges on rows that were held out, write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=ROOT / "benchmarks" / "data")
    folder = parser.parse_args().folder
    memory = fit.usable(folder / fit.MEMORY)
    speed = fit.usable(folder / fit.SPEED)
    values, bounds = fit.everything(memory, speed)
    document = {
        "made_by": "scripts/fit_estimator.py",
        "rows": {
            name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
            for name in (fit.MEMORY, fit.SPEED)
        },
        "meaning": fit.MEANING,
        "values": values | bounds,
    }
    fitted.PATH.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(f"{len(memory)} rows of memory and {len(speed)} of speed -> {fitted.PATH}")


if __name__ == "__main__":
    main()
