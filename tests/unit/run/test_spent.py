"""What jobs have cost, added up."""

from __future__ import annotations

from decimal import Decimal

from backends.offer import FREE, Money
from launcher.run.spent import total

DOLLAR, RUPEES = Money(Decimal("1.005")), Money(Decimal(80), "INR")


def test_costs_are_added_up_a_currency() -> None:
    assert total([DOLLAR, None, RUPEES, DOLLAR]) == "$2.01 and INR 80.00"


def test_nothing_paid_is_nothing_said() -> None:
    assert total([FREE, None]) == ""
