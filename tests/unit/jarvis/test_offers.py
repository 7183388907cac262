from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from backends.errors import BadInput
from backends.jarvis import catalog, offers
from backends.offer import Need

WHEN = datetime(2026, 11, 24, tzinfo=UTC)


def _offers(need: Need, kind: str = offers.CONTAINER) -> list[tuple[str | None, str]]:
    return [(one.gpu, one.region) for one in offers.offers(offers.dated(), need, kind=kind)]


def test_the_cheapest_gpu_comes_first_and_the_disk_is_in_the_price() -> None:
    first = offers.offers(offers.dated(), Need(), kind=offers.CONTAINER)[0]
    assert (first.gpu, first.region, first.count) == ("A30", "IN2", 1)
    assert first.price.amount == Decimal("0.41") + Decimal("0.014")
    assert "2026-08-17" in first.source
    assert first.read_at == catalog.READ_AT


def test_ranked_kinds_the_first_that_there_is() -> None:
    assert _offers(Need(gpus=(("B300", 1), ("H100", 1), ("L4", 1)))) == [
        ("H100", "IN2"),
        ("H100", "EU1"),
    ]


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ("a100-80gb", "A100-80GB"),
        ("A100", "A100"),
        ("A100-40GB", "A100"),
        ("rtxpro6000", "RTX-PRO6000"),
    ],
)
def test_names_as_users_write_them(asked: str, name: str) -> None:
    assert _offers(Need(gpus=((asked, 1),)))[0][0] == name


def test_a100_is_no_a100_80gb() -> None:
    assert {gpu for gpu, _ in _offers(Need(gpus=(("A100", 1),)))} == {"A100"}


def test_europe_has_one_gpu_a_machine() -> None:
    assert _offers(Need(gpus=(("H200", 2),))) == [("H200", "IN2")]


@pytest.mark.parametrize("region", ["IN1", "in1", "india-chennai-01"])
def test_a_region_by_either_name(region: str) -> None:
    assert _offers(Need(regions=(region,))) == [("RTX-PRO6000", "IN1")]


def test_spot_has_its_own_price_and_no_virtual_machines() -> None:
    need = Need(gpus=(("H100", 1),), spot=True)
    (only,) = offers.offers(offers.dated(), need, kind=offers.CONTAINER)
    assert only.spot
    assert only.price.amount == Decimal("1.19") + Decimal("0.014")
    assert _offers(need, offers.VM) == []


def test_a_machine_without_gpu() -> None:
    found = offers.offers(offers.dated(), Need(cpu_only=True, cpus=3), kind=offers.CONTAINER)
    assert (found[0].gpu, found[0].cpus, found[0].memory_gib) == (None, 4, 16.0)
    assert found[0].data["kind"] == offers.CPU


def test_live_offers_only_what_is_free() -> None:
    full = [replace(gpu, free=0, spot_free=0) for gpu in catalog.GPUS if gpu.gpu == "L4"]
    free = [replace(gpu, free=2) for gpu in catalog.GPUS if gpu.gpu == "A100"]
    market = offers.Market([*full, *free], [], "INR", "live", WHEN, live=True)
    found = offers.offers(market, Need(gpus=(("L4", 1), ("A100", 2))), kind=offers.CONTAINER)
    assert [(one.gpu, one.count, one.price.currency) for one in found] == [("A100", 2, "INR")]
    assert offers.offers(market, Need(gpus=(("A100", 3),)), kind=offers.CONTAINER) == []


def test_a_line_for_one_sort_of_machine_only() -> None:
    line = replace(catalog.GPUS[5], kind="vm")
    market = offers.Market([line], [], "USD", "live", WHEN, live=True)
    assert offers.offers(market, Need(), kind=offers.CONTAINER) == []
    assert len(offers.offers(market, Need(), kind=offers.VM)) == 1


def test_the_sorts_of_machine_by_name() -> None:
    assert offers.kind_of("") == offers.CONTAINER
    assert offers.kind_of("vm") == offers.VM
    with pytest.raises(BadInput, match="noida"):
        offers.kind_of("noida")
