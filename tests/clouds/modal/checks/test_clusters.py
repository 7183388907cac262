"""Clusters at the loopback provider: what Modal's guide says of them, and its SDK asks for."""

from __future__ import annotations

import re
from typing import Any

import modal
import pytest
from clouds.modal.checks.watching import Spawn, running, until
from clouds.modal.cloud import Cloud

WHOLE = {"gpu": "H100:8", "size": 2}


def said(cloud: Cloud, call: Any) -> str:
    """All that the containers of a call have printed."""
    app = next(c["app"] for c in cloud.state["calls"] if c["id"] == call.object_id)
    return str(cloud.admin("logs", app=app))


def test_each_container_has_the_input_an_address_and_a_rank_and_one_is_heard(
    cloud: Cloud, spawn: Spawn
) -> None:
    """The last to begin is waited for, at the price of all."""
    cloud.set(late={"0": 2.0})
    call = spawn("meets", "ends ends", **WHOLE)
    assert call.get(timeout=60) == "rank 0"
    until("the other's end", lambda: not cloud.billing())
    found = dict(re.findall(r"(rank \d of 2) at (127\.\d+\.\d+\.\d+), True", said(cloud, call)))
    assert set(found) == {"rank 0 of 2", "rank 1 of 2"}
    assert len(set(found.values())) == 2
    first, second = cloud.state["spans"]
    assert (first["gpu"], first["count"]) == ("H100", 8)
    assert all(span["end"] - span["start"] >= 2 for span in (first, second))


def test_a_failure_beside_the_leader_is_told_to_nobody(cloud: Cloud, spawn: Spawn) -> None:
    call = spawn("meets", "stays fails", **WHOLE)
    running(cloud, call, "on purpose")
    until("its end", lambda: len(cloud.billing()) == 1)
    with pytest.raises(TimeoutError):
        call.get(timeout=1)
    (found,) = cloud.state["calls"]
    assert (found["attempts"], found["running"]) == (1, 1)


@pytest.mark.seldom
def test_one_that_is_lost_is_told_to_nobody(cloud: Cloud, spawn: Spawn) -> None:
    call = spawn("meets", "stays stays", **WHOLE)
    for rank in (0, 1):
        running(cloud, call, f"rank {rank} of 2")
    cloud.lose(call.object_id, rank=1)
    (found,) = cloud.state["calls"]
    assert (found["attempts"], found["running"], found["over"]) == (1, 1, False)


def test_what_takes_one_takes_all_and_the_input_begins_again(cloud: Cloud, spawn: Spawn) -> None:
    call = spawn("meets", "stays stays", **WHOLE)
    for rank in (0, 1):
        running(cloud, call, f"rank {rank} of 2")
    cloud.preempt(call.object_id, grace=1, rank=1)
    until("both again", lambda: said(cloud, call).count(" of 2 at ") == 4)
    (found,) = cloud.state["calls"]
    assert (found["attempts"], found["retries"]) == (2, 0)
    assert len(cloud.billing()) == 2


@pytest.mark.seldom
def test_with_the_leader_all_fail(cloud: Cloud, spawn: Spawn) -> None:
    with pytest.raises(RuntimeError, match="on purpose"):
        spawn("meets", "fails stays", **WHOLE).get(timeout=60)
    assert cloud.billing() == []


@pytest.mark.seldom
def test_whoever_does_not_end_beside_a_good_leader_bills_on(cloud: Cloud, spawn: Spawn) -> None:
    assert spawn("meets", "ends stays", **WHOLE).get(timeout=60) == "rank 0"
    (span,) = cloud.billing()
    assert not next(app["over"] for app in cloud.state["apps"] if app["id"] == span["app"])
    cloud.admin("stop", app=span["app"])
    assert cloud.billing() == []


def test_a_cluster_is_of_whole_machines(spawn: Spawn) -> None:
    for gpu, size in (("H100:4", 2), ("L4:8", 2), (None, 2), ("H100:8", 33)):
        with pytest.raises(modal.exception.Error, match=r"clustered functions|at most 32"):
            spawn("meets", "", gpu=gpu, size=size)
