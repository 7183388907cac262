"""What is asked of Modal, and what it costs by the list."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from backends.errors import Refused, Unsupported
from backends.modal import catalog, clusters
from backends.modal.offers import offers
from backends.offer import Need


def test_the_price_is_of_the_gpu_the_cores_and_the_memory() -> None:
    (offer,) = offers(catalog.dated(), Need(gpus=(("H100", 1),)))
    assert (offer.cpus, offer.memory_gib) == (8, 64)
    # $3.95 + 8 x $0.0473 + 64 x $0.008, as of the dated list
    assert offer.price.amount == Decimal("4.8404")
    assert offer.data["gpus"] == "H100:1"
    assert offer.read_at == catalog.READ_AT


def test_ranked_kinds_are_one_offer_at_the_price_of_the_dearest() -> None:
    (offer,) = offers(catalog.dated(), Need(gpus=(("l4", 2), ("H100!", 1))))
    assert (offer.gpu, offer.count) == ("L4", 2)
    assert offer.data["gpus"] == "L4:2,H100!:1"
    assert offer.price.amount == Decimal("4.8404")


@pytest.mark.parametrize(
    ("asked", "found"),
    [("a100", "A100-40GB:1"), ("A100-80GB", "A100-80GB:1"), ("a10g", "A10:1"), ("b300", "B300:1")],
)
def test_a_gpu_has_the_names_that_people_use(asked: str, found: str) -> None:
    (offer,) = offers(catalog.dated(), Need(gpus=((asked, 1),)))
    assert offer.data["gpus"] == found


@pytest.mark.parametrize(
    "need",
    [
        Need(gpus=(("RTX4090", 1),)),
        Need(gpus=(("H100", 1), ("RTX4090", 1))),
        Need(gpus=(("H100", 9),)),
        Need(gpus=(("RTX4090", 8),), nodes=2),
        Need(gpus=(("H100", 8),), nodes=2, spot=True),
        Need(spot=True),
        Need(regions=("eu",)),
    ],
)
def test_what_modal_does_not_have_is_not_offered(need: Need) -> None:
    assert offers(catalog.dated(), need) == []


def test_a_cluster_is_one_offer_at_the_price_of_all_its_machines() -> None:
    (offer,) = offers(catalog.dated(), Need(gpus=(("H100!", 8), ("h200", 8)), nodes=3))
    assert (offer.gpu, offer.count, offer.nodes) == ("H100", 8, 3)
    assert offer.data["gpus"] == "H100!:8,H200:8"
    # ($4.54 x 8 + 8 x $0.0473 + 64 x $0.008) x 3, as of the dated list
    assert offer.price.amount == Decimal("111.6312")
    assert offer.of(1).price.amount == Decimal("37.2104")
    assert offer.plain is not None
    assert (offer.plain.nodes, offer.plain.gpu) == (1, None)
    # 4 x $0.0473 + 16 x $0.008: merging is of one machine
    assert offer.plain.price.amount == Decimal("0.3172")
    assert {(one.gpu, one.count) for one in offers(catalog.dated(), Need(nodes=2))} == {
        (kind, clusters.WHOLE) for kind in clusters.KINDS
    }


@pytest.mark.parametrize(
    ("need", "told"),
    [
        (Need(gpus=(("H100", 1),), nodes=2), "asks for 2 with H100:1"),
        (Need(gpus=(("H100", 8), ("L4", 8)), nodes=2), "asks for 2 with L4:8"),
        (Need(cpu_only=True, nodes=2), "asks for 2 with no GPU"),
        (Need(gpus=(("H100", 8),), nodes=33), "at most 32 nodes, and this asks for 33"),
        (Need(nodes=33), "at most 32 nodes, and this asks for 33"),
    ],
)
def test_what_is_no_cluster_is_refused_with_the_way_out(need: Need, told: str) -> None:
    with pytest.raises(Unsupported, match=told) as caught:
        offers(catalog.dated(), need)
    assert "-b skypilot" in caught.value.hint


def test_an_sdk_without_clusters_is_named() -> None:
    with pytest.raises(Refused, match="has no clusters") as caught:
        clusters.clustered(object(), print, 2)
    assert "--upgrade modal" in caught.value.hint


def test_without_a_wish_the_cheapest_comes_first_and_cpu_is_its_own() -> None:
    assert [offer.gpu for offer in offers(catalog.dated(), Need())][:2] == ["T4", "L4"]
    (plain,) = offers(catalog.dated(), Need(cpu_only=True))
    assert (plain.gpu, plain.count, plain.data["gpus"]) == (None, 0, "")


def test_live_rates_win_and_what_they_lack_comes_from_the_list() -> None:
    now = datetime(2026, 11, 26, tzinfo=UTC)
    rates = catalog.live({"gpu_hour_cost_h100": "3.00", "cpu_hour_cost": "0.05"}, now)
    assert (rates.gpus["H100"], rates.cpu, rates.gib) == (
        Decimal("3.00"),
        Decimal("0.05"),
        catalog.GIB_HOUR,
    )
    assert rates.gpus["T4"] == Decimal("0.59")
    assert (rates.source, rates.read_at) == ("Modal, live", now)


@pytest.mark.parametrize("text", ["0", "-1", "NaN", "Infinity", "cheap", ""])
@pytest.mark.parametrize("name", ["gpu_hour_cost_h100", "cpu_hour_cost", "mem_gib_hour_cost"])
def test_what_is_no_price_is_not_taken_for_one(name: str, text: str) -> None:
    now = datetime(2026, 11, 26, tzinfo=UTC)
    rates, listed = catalog.live({name: text}, now), catalog.dated()
    assert (rates.gpus, rates.cpu, rates.gib) == (listed.gpus, listed.cpu, listed.gib)
    with pytest.raises(ValueError, match=name):
        catalog.from_json({"rates": {name: text}}, now)


@pytest.mark.parametrize(
    ("need", "told"),
    [
        (Need(gpus=(("A10", 1),)), ""),
        (Need(gpus=(("H100!", 1),)), ""),
        (Need(gpus=(("H100", 1),)), "an H200 at an H100's price (H100! forbids that)"),
        (
            Need(gpus=(("A10", 1), ("L4", 2))),
            "L4:2, whichever is free first; priced as the dearest",
        ),
    ],
)
def test_what_may_come_instead_is_told(need: Need, told: str) -> None:
    (offer,) = offers(catalog.dated(), need)
    assert offer.instead == told
