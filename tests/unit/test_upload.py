"""What sending a run's files will take, and when it is worth a warning."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from backends.offer import Money, Offer
from launcher.store import Store, open_store
from launcher.upload import GUESS_BYTES_PER_S, upload


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path)


def plan(*, size: int, here: bool = False, limit: timedelta | None = None) -> Any:
    return SimpleNamespace(
        offer=Offer("jarvis", "A30", 1, Money(Decimal("0.36")), here=here),
        bundle=SimpleNamespace(size_bytes=size),
        backend_spec="jarvis",
        model=None,
        recipe=SimpleNamespace(origin="mine"),
        run=SimpleNamespace(max_duration=limit, max_cost=None),
    )


def test_nothing_is_sent_to_this_machine(store: Store) -> None:
    assert upload(plan(size=10, here=True), store) is None


def test_until_it_is_measured_the_speed_is_a_guess(store: Store) -> None:
    found = upload(plan(size=100 * GUESS_BYTES_PER_S), store)
    assert found is not None
    assert (found.took, found.measured_at) == (timedelta(seconds=100), None)
    assert found.cost.amount == Decimal("0.01")
    assert found.share is None
    assert not found.heavy


def test_a_measured_uplink_counts(store: Store) -> None:
    store.save_uplink("jarvis", sent_bytes=4_000_000, seconds=2)
    found = upload(plan(size=60_000_000, limit=timedelta(minutes=10)), store)
    assert found is not None
    assert found.took == timedelta(seconds=30)
    assert found.measured_at is not None
    assert not found.heavy  # 30 s of 10 min and 30 s


def test_above_a_twentieth_of_the_job_it_is_heavy(store: Store) -> None:
    store.save_uplink("jarvis", sent_bytes=4_000_000, seconds=2)
    found = upload(plan(size=66_000_000, limit=timedelta(minutes=10)), store)
    assert found is not None
    assert found.heavy


def test_each_of_several_nodes_gets_its_own(store: Store) -> None:
    one, two = plan(size=1000), plan(size=1000)
    two.offer = two.offer.of(2)
    found = [upload(each, store) for each in (one, two)]
    assert [each.size_bytes for each in found if each] == [1000, 2000]
    two.offer = replace(two.offer, ends=True)  # files wait where all of them look
    assert [each.size_bytes for each in [upload(two, store)] if each] == [1000]
