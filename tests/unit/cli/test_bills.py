"""What is said of the bill when nobody is there holds for every place that a run may come to."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest

from backends.offer import FREE, Money, Offer
from launcher.cli import bills_view
from launcher.on_finish import OnFinish
from launcher.run.spec import Elsewhere

MODAL = Offer("modal", "L4", 1, Money(Decimal(1)), ends=True)
JARVIS = Offer("jarvis", "L4", 1, Money(Decimal(1)))
SKY = Offer("skypilot", "L4", 1, Money(Decimal(1)), alone="its cluster takes itself down")
HERE = Offer("local", "L4", 1, FREE, here=True)
OWN = replace(JARVIS, price=FREE)

PLACES = {"modal": MODAL, "jarvis:vm": JARVIS, "skypilot": SKY, "local": HERE, "own": OWN}


def plan(*specs: str, on_finish: OnFinish | None = None) -> Any:
    others = tuple(Elsewhere(spec, PLACES[spec]) for spec in specs[1:])
    run = SimpleNamespace(on_finish=on_finish, elsewhere=others)
    return SimpleNamespace(backend_spec=specs[0], offer=PLACES[specs[0]], run=run)


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (plan("modal"), "  it bills while it works, also when"),
        (plan("jarvis:vm"), "  it is let go of by this computer"),
        (plan("jarvis:vm", on_finish=OnFinish.PAUSE), ", the machine pauses itself"),
        (plan("modal", "jarvis:vm"), "  on jarvis:vm it is let go of by this computer"),
        (plan("modal", "skypilot", "jarvis:vm"), "  on jarvis:vm it is let go of"),
        (
            plan("modal", "jarvis:vm", on_finish=OnFinish.PAUSE),
            "on jarvis:vm the machine pauses itself",
        ),
        (plan("own", "modal"), "  on modal it bills while it works"),
        (plan("modal", "skypilot"), ""),
        (plan("local"), ""),
        (plan("own"), ""),
    ],
)
def test_the_place_that_would_bill_longest_is_named(
    made: Any, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bills_view.warn(made)
    told = "".join(capsys.readouterr())
    assert says in told
    assert bool(told) == bool(says)
    assert told.count("\n") <= 1


def test_what_each_place_does_by_itself_is_in_the_plan(capsys: pytest.CaptureFixture[str]) -> None:
    bills_view.alone(plan("skypilot"))
    assert capsys.readouterr().out == (
        "  when its job is over and this computer is off, its cluster takes itself down\n"
    )
    bills_view.alone(plan("modal", "skypilot", "jarvis:vm", "skypilot"))
    assert capsys.readouterr().out == (
        "  when its job is over and this computer is off, on skypilot its cluster takes itself "
        "down\n"
    )
    bills_view.alone(plan("modal", "jarvis:vm"))
    assert capsys.readouterr().out == ""
