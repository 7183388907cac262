"""What axolotl prints about its progress, as patterns for the runner."""

from __future__ import annotations

from backends.plan import MetricPattern

PATTERNS: tuple[MetricPattern, ...] = ()
