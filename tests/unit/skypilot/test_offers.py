"""Offers without a server: SkyPilot's price lists on this disk, or the few rows that came along."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from backends.errors import BadInput, Refused, Unsupported
from backends.offer import FREE, Need
from backends.skypilot import catalog
from backends.skypilot.offers import Offers
from backends.skypilot.server import Considered, Row, Server

HEAD = (
    "InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,GpuInfo,Price,SpotPrice,Region\n"
)
AWS = """g6.xlarge,L4,1.0,4.0,16.0,"{'Gpus': []}",0.8048,0.3,us-east-1
g6.xlarge,L4,1.0,4.0,16.0,,0.9,0.25,eu-west-1
p5.48xlarge,H100,8.0,192.0,2048.0,,55.04,,us-east-1
m6i.large,,,2.0,8.0,,0.096,0.04,us-east-1
odd,L4,one,4.0,16.0,,free,,x
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for cloud in ("aws", "hyperstack", "jarvislabs"):
        folder = tmp_path / catalog.FOLDER / cloud
        folder.mkdir(parents=True)
        (folder / "vms.csv").write_text(HEAD + AWS)
        os.utime(folder / "vms.csv", (1_790_000_000, 1_790_000_000))
    return tmp_path


def offers(home: Path, infra: str = "", guest: str = "") -> Offers:
    server = Server({"HOME": str(home)})
    return Offers(server, infra=infra, guest=guest, clock=lambda: datetime.now(UTC))


def test_a_job_that_recovers_is_kept_in_the_bucket_that_was_named(home: Path) -> None:
    need = Need(gpus=(("l4", 1),), recover=True)
    assert offers(home).dated(need) == []
    (found,) = offers(home).dated(replace(need, store="s3://lab/jobs"))
    assert (found.keeps, found.ends) == ("s3://lab/jobs", True)
    assert (found.data["store"], found.data["recovers"]) == ("s3://lab/jobs", "1")
    with pytest.raises(BadInput, match="no bucket's address"):
        offers(home).dated(replace(need, store="lab"))


@pytest.mark.parametrize("infra", ["aws", "kubernetes"])
def test_where_no_disk_outlives_a_machine_a_bucket_is_asked_for(home: Path, infra: str) -> None:
    with pytest.raises(Refused, match="a bucket, which nobody has named") as caught:
        offers(home, infra)._recovering(Need(recover=True))
    assert "--store s3://BUCKET/PREFIX" in caught.value.hint


def test_a_list_on_disk_is_read_with_its_age_and_only_of_clouds_that_skypilot_has(
    home: Path,
) -> None:
    found = offers(home).dated(Need(gpus=(("l4", 1),)))
    assert [(one.gpu, one.count, one.price.amount, one.region) for one in found] == [
        ("L4", 1, Decimal("0.8048"), "aws/us-east-1")
    ]
    assert found[0].source == "SkyPilot's list of aws"
    assert found[0].read_at == datetime.fromtimestamp(1_790_000_000, UTC)
    assert json.loads(found[0].data["resources"]) == [
        {"infra": "aws", "instance_type": "g6.xlarge", "accelerators": "L4:1"}
    ]


def test_needs_narrow_what_is_offered(home: Path) -> None:
    mine = offers(home)
    assert [one.gpu for one in mine.dated(Need())] == ["L4", "H100"]
    assert [one.count for one in mine.dated(Need(gpus=(("H100", 8),)))] == [8]
    assert mine.dated(Need(gpus=(("H100", 1),))) == []
    assert [one.price.amount for one in mine.dated(Need(cpu_only=True))] == [Decimal("0.096")]
    assert mine.dated(Need(memory_gib=64))[0].gpu == "H100"
    spot = mine.dated(Need(gpus=(("L4", 1),), spot=True))
    assert [(one.price.amount, one.spot) for one in spot] == [(Decimal("0.25"), True)]
    there = mine.dated(Need(gpus=(("L4", 1),), regions=("eu-west-1",)))
    assert [one.region for one in there] == ["aws/eu-west-1"]  # dearer than elsewhere
    assert offers(home, "gcp").dated(Need()) == []


def test_without_lists_a_few_rows_are_there_and_say_so(tmp_path: Path) -> None:
    found = offers(tmp_path).dated(Need())
    assert {one.region for one in found} == {"lambda"}
    assert all("in part" in one.source and "sky show-gpus" in one.source for one in found)
    assert [one.price.amount for one in found] == sorted(one.price.amount for one in found)


def test_hardware_of_one_s_own_has_no_price_list(tmp_path: Path) -> None:
    (found,) = offers(tmp_path, "slurm/lab").dated(Need(gpus=(("H100", 2),)))
    assert (found.gpu, found.count, found.price) == ("H100", 2, FREE)
    assert "no price is known" in found.source


def test_a_guest_costs_nothing_more(tmp_path: Path) -> None:
    (found,) = offers(tmp_path, guest="mine").dated(Need())
    assert found.price.amount == 0
    assert "bills in any case" in found.source


def test_the_price_of_several_nodes_is_that_of_all(home: Path, tmp_path: Path) -> None:
    (found,) = offers(home).dated(Need(gpus=(("L4", 1),), nodes=3))
    assert (found.count, found.nodes, found.price.amount) == (1, 3, 3 * Decimal("0.8048"))
    assert found.of(1).price.amount == Decimal("0.8048")
    assert found.of(1).nodes == 1
    (own,) = offers(tmp_path, "slurm/lab").dated(Need(gpus=(("H100", 2),), nodes=2))
    assert (own.nodes, own.price) == (2, FREE)


def test_a_cluster_of_the_user_s_own_with_fewer_nodes_is_refused(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = Row("mine", "UP", "Slurm", "tiny", -1, False, 0, "H100", 1, nodes=1)
    monkeypatch.setattr(Server, "require_answer", lambda self: None)
    monkeypatch.setattr(Server, "clusters", lambda self, name=None, **_: [row])
    with pytest.raises(Unsupported, match="the cluster 'mine' has 1 node, and this job asks for 2"):
        offers(home, guest="mine").live(Need(nodes=2))


def test_where_kinds_are_compared_each_region_has_its_cheapest(home: Path) -> None:
    path = home / catalog.FOLDER / "aws" / "vms.csv"
    path.write_text(path.read_text() + "g6.2xlarge,L4,1.0,8.0,32.0,,0.97,0.4,us-east-1\n")
    found = [one for one in offers(home).dated(Need(every_count=True)) if one.gpu == "L4"]
    assert [(str(one.price.amount), one.region) for one in found] == [
        ("0.8048", "aws/us-east-1"),
        ("0.9", "aws/eu-west-1"),
    ]


TRIED = """
import json, sys
import pandas, sky
from sky.catalog import common
first = json.loads(sys.argv[1])
asked = sky.Resources(**first)
rows = [(name, "L4", 1.0, 4.0, 16.0, price, "us-east-1") for name, price in
        (("cheap", 0.804), ("dear", 0.9))]
names = "InstanceType AcceleratorName AcceleratorCount vCPUs MemoryGiB Price Region"
kept, _ = common.get_instance_type_for_accelerator_impl(
    pandas.DataFrame(rows, columns=names.split()), "L4", 1,
    region=asked.region, max_hourly_cost=asked.max_hourly_cost)
print(*kept)
"""
"""SkyPilot's own choice of instance types, for what an offer asks for."""


def considered(monkeypatch: pytest.MonkeyPatch, *rows: Considered) -> None:
    monkeypatch.setattr(Server, "require_answer", lambda self: None)
    monkeypatch.setattr(Offers, "_task", lambda self, any_of, need: None)
    monkeypatch.setattr(Server, "considered", lambda self, task: list(rows))


def asked_for(home: Path, need: Need) -> list[dict[str, object]]:
    (found,) = offers(home).live(need)
    asked: list[dict[str, object]] = json.loads(found.data["resources"])
    return asked


def test_a_live_offer_holds_skypilot_to_its_price(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 0.804 a node, of two: the table rounds what it says of both.
    considered(monkeypatch, Considered("AWS", "us-east-1", 4, 16, "L4", 1, Decimal("1.60")))
    (first,) = asked_for(home, Need(gpus=(("L4", 1),), nodes=2))
    assert first["max_hourly_cost"] == 0.805
    tried = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", TRIED, json.dumps(first)],
        env={**os.environ, "HOME": str(home)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert tried.stdout.split() == ["cheap"]


@pytest.mark.parametrize("cloud", ["Slurm", "Kubernetes", "SSH"])
def test_hardware_of_one_s_own_is_held_to_no_price(
    home: Path, monkeypatch: pytest.MonkeyPatch, cloud: str
) -> None:
    considered(monkeypatch, Considered(cloud, "lab", 4, 16, "L4", 1, Decimal("2.50")))
    (first,) = asked_for(home, Need(gpus=(("L4", 1),)))
    assert "max_hourly_cost" not in first


def test_under_a_limit_of_dollars_nothing_comes_in_place_of_an_offer(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    considered(monkeypatch, Considered("AWS", "us-east-1", 4, 16, "L4", 1, Decimal("0.80")))
    both = Need(gpus=(("L4", 1), ("H100", 8)))
    assert [one["accelerators"] for one in asked_for(home, both)] == ["L4:1", "H100:8"]
    assert [one["accelerators"] for one in asked_for(home, replace(both, capped=True))] == ["L4:1"]
    assert offers(home).live(replace(both, capped=True))[0].instead == ""
