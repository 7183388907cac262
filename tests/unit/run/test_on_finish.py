"""How a job is let go of: by what the user wished, else by what its price makes sensible."""

from __future__ import annotations

from decimal import Decimal

import pytest

from backends import Keep, Money, Offer
from backends.offer import FREE
from launcher.on_finish import LINGER, Ending, OnFinish, ending


def offer(price: Money) -> Offer:
    return Offer("somewhere", "H100", 1, price)


PAID = offer(Money(Decimal("2.69")))


@pytest.mark.parametrize(
    ("asked", "where", "expected"),
    [
        (None, PAID, Ending(Keep.NOTHING)),
        (None, offer(FREE), Ending(Keep.FILES)),
        (OnFinish.DESTROY, offer(FREE), Ending(Keep.NOTHING)),
        (OnFinish.PAUSE, PAID, Ending(Keep.FILES, LINGER)),
        (OnFinish.KEEP, PAID, Ending(None)),
    ],
)
def test_endings(asked: OnFinish | None, where: Offer, expected: Ending) -> None:
    assert ending(asked, where) == expected
