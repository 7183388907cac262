"""The few constants that were fitted to measurements, by scripts/fit_estimator.py."""

from __future__ import annotations

import json
from pathlib import Path

PATH = Path(__file__).with_name("tables") / "fitted.json"

FITTED: dict[str, float] = json.loads(PATH.read_text(encoding="utf-8"))["values"]
"""By name; what each means stands beside it in the file."""
