"""What the loopback cloud says it has billed is right to the cent."""

from __future__ import annotations

from decimal import Decimal

from clouds.jarvis.meter import Meter

L4, DISK = Decimal("0.44"), Decimal("0.014")


def metered(now: float) -> Meter:
    """One machine: it ran for 61 seconds, was paused, and runs again since 1000."""
    meter = Meter()
    meter.begin(7, "ftl-a", "disk", DISK, 0)
    meter.begin(7, "ftl-a", "gpu", L4, 10)
    meter.finish(7, 71, "gpu")
    meter.begin(7, "ftl-a", "gpu", L4, 1000)
    meter.now = now
    return meter


def test_a_gpu_is_billed_by_the_begun_minute_and_a_disk_by_the_second() -> None:
    disk, gpu = metered(1030).bills()
    assert (gpu.seconds, gpu.dollars) == (61 + 30, L4 * 3 / 60)
    assert (disk.seconds, disk.dollars) == (1030, DISK * 1030 / 3600)
    assert metered(1030).total == gpu.dollars + disk.dollars


def test_a_minute_that_is_full_is_one_minute() -> None:
    assert metered(1060).bills()[1].dollars == L4 * 3 / 60
    assert metered(1060.1).bills()[1].dollars == L4 * 2 / 60 + L4 * 2 / 60


def test_what_bills_now_and_since_when() -> None:
    meter = metered(1030)
    assert [(bill.kind, bill.since) for bill in meter.billing()] == [("disk", 0), ("gpu", 1000)]
    meter.finish(7, 1030, "gpu")
    assert [bill.kind for bill in meter.billing()] == ["disk"]
    meter.finish(7, 1030, "disk")
    assert meter.billing() == []
    assert meter.total == metered(1030).total


def test_another_machine_is_not_touched() -> None:
    meter = metered(1030)
    meter.begin(8, "ftl-b", "gpu", L4, 1020)
    meter.finish(7, 1025, "gpu", "disk")
    assert [(bill.machine, bill.kind) for bill in meter.billing()] == [(8, "gpu")]


def test_a_filesystem_bills_and_is_not_a_machine() -> None:
    meter = metered(1030)
    meter.begin(3001, "models", "filesystem", DISK, 30)
    assert all(bill.kind != "filesystem" for bill in meter.billing())
    assert [bill.seconds for bill in meter.billing("filesystem")] == [1000]


def test_seconds_billed_after_the_last_needed_byte() -> None:
    meter = metered(1030)
    assert meter.after(1010) == 20
    assert meter.after(50) == 21 + 30
    assert meter.after(2000) == 0
    assert meter.after(1010, kind="disk") == 20
    assert meter.after(1010, name="ftl-b") == 0


def test_it_survives_a_trip_through_json() -> None:
    meter = metered(1030)
    assert Meter.from_json(meter.as_json(), 1030) == meter
