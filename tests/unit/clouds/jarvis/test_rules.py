"""The loopback cloud's price list, faults and clock, each by itself."""

from __future__ import annotations

import threading
from decimal import Decimal
from typing import Any

import pytest
from clouds.jarvis.catalogue import EUROPE, NOIDA, PRICES, REGIONS, Catalogue
from clouds.jarvis.clock import Agenda, Clock
from clouds.jarvis.faults import Faults, with_nulls
from jarvislabs.models import InstanceListResponse, ServerMetaResponse
from pydantic import ValidationError


def test_every_row_of_the_catalogue_is_one_the_sdk_reads() -> None:
    meta = ServerMetaResponse(**Catalogue().meta())
    assert {row.region for row in meta.server_meta} == set(REGIONS)
    assert len(meta.server_meta) == 2 * len(PRICES) - 2  # in Europe there is one row a GPU
    assert all(row.effective_num_free_devices == 8 for row in meta.server_meta)


def test_what_is_taken_is_not_free_and_comes_back() -> None:
    catalogue = Catalogue()
    assert catalogue.take("L4", NOIDA, 8)
    assert not catalogue.take("L4", NOIDA, 1)
    assert not catalogue.take("L4", EUROPE, 1)
    catalogue.give("L4", NOIDA, 3)
    assert catalogue.take("L4", NOIDA, 2)
    assert {row["num_free_devices"] for row in catalogue.meta()["server_meta"]
            if row["gpu_type"] == "L4"} == {1}  # fmt: skip


def test_an_account_in_rupees_sees_rupees() -> None:
    catalogue = Catalogue(currency="INR")
    assert catalogue.money(Decimal("0.44")) == 38.72
    assert Catalogue().money(Decimal("0.44")) == 0.44


def test_rows_with_null_are_rows_the_sdk_cannot_read() -> None:
    with pytest.raises(ValidationError):
        ServerMetaResponse(**with_nulls(Catalogue().meta()))
    row = {"machine_id": 5, "framework": "pytorch", "status": "Running"}
    listed: dict[str, Any] = {"success": True, "instances": [row]}
    assert InstanceListResponse(**listed).instances
    with pytest.raises(ValidationError):
        InstanceListResponse(**with_nulls(listed))
    assert with_nulls([1]) == [1]


def test_a_fault_strikes_whom_it_should_and_as_often_as_it_should() -> None:
    faults = Faults()
    number = faults.add("POST", r"misc/destroy\?machine_id=7$", 500, times=2, after=1)
    other = faults.add("*", "misc", 522, times=None, after=0)
    seen = [faults.strike("POST", "misc/destroy?machine_id=7") for _ in range(4)]
    assert seen == [522, 500, 500, 522]
    assert faults.strike("GET", "users/fetch") is None
    assert (faults.hits(number), faults.hits(other)) == (2, 2)
    faults.forget(other)
    assert faults.strike("GET", "misc/status") is None
    faults.forget()
    assert faults.rules == []


def test_time_that_is_skipped_is_over_and_what_was_due_is_done() -> None:
    clock = Clock(speed=1000)
    done = threading.Event()
    agenda = Agenda(clock, threading.RLock(), lambda: None)
    agenda.start()
    began = clock.now()
    agenda.after(1e9, done.set)
    agenda.skip(1e9)
    assert done.wait(60)
    assert clock.now() - began >= 1e9
    agenda.stop()


def test_what_fails_does_not_keep_the_rest_from_being_done(
    capsys: pytest.CaptureFixture[str],
) -> None:
    done = threading.Event()
    agenda = Agenda(Clock(speed=1000), threading.RLock(), lambda: None)
    nothing: dict[str, str] = {}
    agenda.after(0, lambda: print(nothing["there"]))
    agenda.after(1, done.set)
    agenda.start()
    assert done.wait(60)
    agenda.stop()
    assert "KeyError" in capsys.readouterr().err
