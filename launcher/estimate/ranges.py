"""A figure that is honest about what it does not know."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Range:
    """The likeliest value, and the ends of a range that holds the truth in 80 % of cases."""

    low: float
    middle: float
    high: float

    def __mul__(self, factor: float) -> Range:
        return Range(self.low * factor, self.middle * factor, self.high * factor)
