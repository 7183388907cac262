"""How long to wait between two looks: a far answer takes time, and is asked for less often."""

from __future__ import annotations

MOST_S = 5.0


def pause(took_s: float, *, least_s: float, times: float = 10) -> float:
    """Seconds until the next look, when the last one took so long."""
    return min(max(least_s, times * took_s), max(MOST_S, least_s))
