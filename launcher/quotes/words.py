"""Ranges of time and money for people."""

from __future__ import annotations

from backends.offer import Money, Offer
from launcher.estimate import Range
from launcher.quotes.learning import Correction


def time_words(hours: Range) -> str:
    """`12 min (8 to 20)`, or `3.4 h (2.6 to 4.6)`."""
    if hours.high < 1:
        low, likely, high = (
            max(1, round(each * 60)) for each in (hours.low, hours.middle, hours.high)
        )
        return f"{likely} min ({low} to {high})"
    return f"{hours.middle:.1f} h ({hours.low:.1f} to {hours.high:.1f})"


def parameters(count: int) -> str:
    """The size of a model: `8.03B`, `135M`, `0.21M`."""
    if count >= 1e9:
        return f"{count / 1e9:.2f}B"
    return f"{count / 1e6:.0f}M" if count >= 1e7 else f"{count / 1e6:.2f}M"


def hourly(offer: Offer) -> str:
    """`$0.45`, or `INR 38.72 ($0.45)` where the account pays in another currency."""
    return str(offer.price) if offer.usd is None else f"{offer.price} ({offer.usd})"


def drawn(pace: Correction, held: Correction) -> str:
    """How an estimate was drawn to earlier runs; empty where there was none."""
    told = [
        f"{name} x {one.factor:.2f} (weight {one.weight:.0%})"
        for name, one in (("time", pace), ("memory", held))
        if one.runs
    ]
    if not told:
        return ""
    runs = max(pace.runs, held.runs)
    same = max(pace.same, held.same)
    mine = f", {same} of this recipe" if same else ""
    return f"drawn to {runs} of your own runs{mine}: {', '.join(told)}"


def money(cost: tuple[Money, Money, Money]) -> str:
    """`$4.10 (3.20 to 5.60)`."""
    low, likely, high = cost
    return f"{likely} ({low.amount:.2f} to {high.amount:.2f})"
