"""Which of a job's containers one is, and where it is told that the others are."""

from __future__ import annotations

from types import SimpleNamespace

import modal
import pytest

from backends.modal.ftlaunch_job import Seat

SIX = ["fd00::1", "fd00::2"]
FOUR = ["10.100.0.1", "10.100.0.2"]


def sit(
    monkeypatch: pytest.MonkeyPatch, four: list[str], six: list[str], name: str = "cu-1"
) -> Seat:
    """Of the second of two containers, as the SDK tells it."""
    ips = {"ipv4": four, "ipv6": six}
    cluster = SimpleNamespace(
        object_id=name,
        container_rank=lambda: 1,
        container_ips=lambda family="ipv6": ips[family],
    )
    monkeypatch.setattr(modal.Cluster, "from_context", lambda: cluster)
    monkeypatch.setenv("FTLAUNCH_TEAM_TOKEN", "the word")
    return Seat(2)


def test_one_that_is_alone_asks_nobody() -> None:
    seat = Seat(1)
    assert (seat.rank, seat.cluster, seat.variables) == (0, "", {})


@pytest.mark.parametrize(
    ("four", "six", "told"),
    [(FOUR, SIX, FOUR), ([], SIX, SIX), (FOUR[:1], SIX, SIX), (["10.100.0.1", ""], SIX, SIX)],
)
def test_the_addresses_are_those_of_all(
    monkeypatch: pytest.MonkeyPatch, four: list[str], six: list[str], told: list[str]
) -> None:
    seat = sit(monkeypatch, four, six)
    assert (seat.rank, seat.cluster) == (1, "cu-1")
    assert seat.variables["FTLAUNCH_NODE_RANK"] == "1"
    assert seat.variables["FTLAUNCH_NODE_ADDRESSES"].split() == told


def test_each_attempt_has_a_word_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    words = [sit(monkeypatch, FOUR, SIX, name).variables for name in ("cu-1", "cu-1", "cu-2")]
    first, same, later = (each["FTLAUNCH_TEAM_TOKEN"] for each in words)
    assert first == same != later
    assert "the word" not in first


def test_a_cluster_that_is_not_whole_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeError, match="says where 1 of the 2 containers are"):
        sit(monkeypatch, [], SIX[:1])
