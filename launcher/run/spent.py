"""What jobs have cost, added up, in words."""

from __future__ import annotations

from collections.abc import Iterable

from backends.offer import Money


def total(costs: Iterable[Money | None]) -> str:
    """A sum a currency: `$1.20`, or `$1.20 and INR 80.00`; empty where nothing was paid."""
    by_currency: dict[str, Money] = {}
    for cost in costs:
        if cost is None or not cost.amount:
            continue
        before = by_currency.get(cost.currency)
        by_currency[cost.currency] = cost if before is None else before + cost
    return " and ".join(str(money) for money in by_currency.values())
