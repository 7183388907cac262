"""Which offer is taken, and what is said when there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from backends.errors import BadInput, Capped, CredentialsMissing, NoCapacity, Unsupported
from backends.offer import Money, Need, Offer
from launcher.choosing import choose


def offer(gpu: str | None, dollars: str, region: str = "IN2") -> Offer:
    return Offer("shop", gpu, 1, Money(Decimal(dollars)), region=region)


SHELF = (offer("L4", "0.44"), offer("A100", "0.89"), offer("H100", "2.69"), offer(None, "0.05"))


class Shop:
    """A provider with a dated list and what is free of it now; None: it has no key."""

    name = "shop"

    def __init__(self, free: Sequence[Offer] | None) -> None:
        self.free = free

    def offers(self, need: Need, *, live: bool) -> Sequence[Offer]:
        if live and self.free is None:
            raise CredentialsMissing("there is no key for the shop")
        shelf = self.free if live and self.free is not None else SHELF
        wanted = [kind for kind, _ in need.gpus]
        if need.cpu_only:
            return [one for one in shelf if one.gpu is None]
        return [one for one in shelf if one.gpu and (not wanted or one.gpu in wanted)]


def taken(free: Sequence[Offer] | None, need: Need, **how: Any) -> Offer:
    shop: Any = Shop(free)
    return choose(shop, need, **{"cap": None, "dry": False, **how}).offer


def test_a_bucket_is_named_only_where_something_is_kept_in_it() -> None:
    kept = replace(offer("L4", "0.44"), keeps="s3://lab")
    need = Need(store="s3://lab", recover=True)
    assert taken([kept], need) is kept
    with pytest.raises(BadInput, match="shop keeps checkpoints in a place of its own") as caught:
        taken(SHELF, need)
    assert "for -b skypilot" in caught.value.hint
    with pytest.raises(BadInput, match="only a job that goes on by itself") as caught:
        taken(SHELF, replace(need, recover=False))
    assert "--recover" in caught.value.hint


def test_where_a_job_is_one_machine_several_nodes_are_refused_by_name() -> None:
    class Single(Shop):
        def offers(self, need: Need, *, live: bool) -> Sequence[Offer]:
            return [] if need.nodes > 1 else super().offers(need, live=live)

    shop: Any = Single(SHELF)
    with pytest.raises(Unsupported) as caught:
        choose(shop, Need(gpus=(("H100", 1),), nodes=2), cap=None, dry=False)
    assert "shop runs a job on one machine" in caught.value.message
    assert "2 nodes (hardware.nodes)" in caught.value.message
    assert "-b skypilot" in caught.value.hint


def test_the_first_offer_is_taken() -> None:
    assert taken(SHELF, Need()).gpu == "L4"
    assert taken(SHELF, Need(cpu_only=True)).gpu is None


def test_without_a_key_a_dry_run_has_dated_prices_and_says_so() -> None:
    shop: Any = Shop(None)
    choice = choose(shop, Need(), cap=None, dry=True)
    assert choice.offer.gpu == "L4"
    assert "there is no key" in choice.doubt
    with pytest.raises(CredentialsMissing):
        choose(shop, Need(), cap=None, dry=False)


def test_an_unknown_gpu_is_answered_with_the_nearest_name() -> None:
    with pytest.raises(BadInput, match="no GPU named 'A10'") as caught:
        taken(SHELF, Need(gpus=(("A10", 1),)))
    assert "did you mean A100?" in caught.value.hint


def test_no_capacity_says_where_and_the_next_best_in_price() -> None:
    free = [one for one in SHELF if one.gpu != "A100"]
    with pytest.raises(NoCapacity, match="no A100 free now in IN2") as caught:
        taken(free, Need(gpus=(("A100", 1),)))
    assert caught.value.hint.startswith("free now: L4 at $0.44 an hour in IN2, H100")


def test_nothing_at_all_free_says_to_ask_again() -> None:
    with pytest.raises(NoCapacity) as caught:
        taken([], Need(gpus=(("A100", 1),)))
    assert caught.value.hint


def test_the_limit_is_in_dollars() -> None:
    assert taken(SHELF, Need(), cap=Decimal("0.44")).gpu == "L4"
    with pytest.raises(Capped, match=r"\$0.44 an hour, above the limit of 0.4"):
        taken(SHELF, Need(), cap=Decimal("0.4"))
    rupees = [replace(SHELF[0], price=Money(Decimal(39), "INR"))]
    with pytest.raises(Capped, match="pays in INR"):
        taken(rupees, Need(), cap=Decimal(100))


def test_what_costs_nothing_is_below_every_limit() -> None:
    free = [replace(SHELF[0], price=Money(Decimal(0), "INR"))]
    assert taken(free, Need(), cap=Decimal("0.01")).price.amount == 0


class Racks(Shop):
    """One whose machines have one, two or four of a kind."""

    def offers(self, need: Need, *, live: bool) -> Sequence[Offer]:
        found = super().offers(need, live=live)
        return [one for one in found if not need.gpus or need.gpus[0][1] in {1, 2, 4}]


def test_more_gpus_than_a_machine_has_is_no_question_of_time() -> None:
    with pytest.raises(BadInput, match="rents no H100 x 9: at most H100 x 4") as told:
        choose(Racks(SHELF), Need(gpus=(("H100", 9),)), cap=None, dry=False)  # type: ignore[arg-type]
    assert told.value.hint == "ask for that many: -g H100:4"
