"""What a managed job's run directory and SkyPilot's queue say together."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from backends.lease import Phase
from backends.offer import Money
from backends.skypilot import managed
from backends.skypilot.ending import _only_for
from backends.skypilot.queue import Managed, _row
from backends.skypilot.records import Cluster, JobNote, Records, Stage

COST = Money(Decimal(1))


def row(status: str, *, at_work: bool = True) -> Managed:
    return Managed(3, "ftlaunch-x", status, at_work, "tiny", 0, 1.0, 1.0, "no luck\nat all")


@pytest.mark.parametrize(
    ("state", "verdict"),
    [
        (None, False),
        ({"phase": "running"}, False),
        ({"phase": "lost", "reason": "the runner was killed"}, False),
        ({"phase": "succeeded", "reason": ""}, True),
        ({"phase": "failed", "reason": "train exited with 1"}, True),
        ({"phase": "stopped", "reason": "stop requested"}, True),
        # Its node was wanted for something else.
        ({"phase": "stopped", "reason": "SIGTERM"}, False),
        ({"phase": "stopped", "reason": "SIGTERM; no checkpoint in time"}, False),
        ({"phase": "failed", "reason": "train was killed by SIGTERM by itself"}, False),
    ],
)
def test_a_runner_that_was_stopped_by_its_nodes_end_has_not_ended(
    state: dict[str, Any] | None, verdict: bool
) -> None:
    assert managed._ended(state) is verdict


@pytest.mark.parametrize(
    ("status", "state", "phase"),
    [
        ("PENDING", None, Phase.QUEUED),
        ("STARTING", None, Phase.QUEUED),
        ("RUNNING", None, Phase.STARTING),
        ("RUNNING", {"phase": "lost"}, Phase.RUNNING),
        ("RUNNING", {"phase": "stopping"}, Phase.STOPPING),
        ("RECOVERING", {"phase": "lost"}, Phase.STARTING),
        ("CANCELLING", {"phase": "lost"}, Phase.STARTING),
    ],
)
def test_what_skypilot_still_minds_has_not_ended(
    status: str, state: dict[str, Any] | None, phase: Phase
) -> None:
    assert managed._waiting(row(status), state, COST).phase is phase


@pytest.mark.parametrize(
    ("found", "phase", "reason"),
    [
        (None, Phase.LOST, "SkyPilot has no job of that name"),
        (row("CANCELLED", at_work=False), Phase.STOPPED, "SkyPilot was asked to end it"),
        (
            row("FAILED_NO_RESOURCE", at_work=False),
            Phase.LOST,
            "SkyPilot ended it (failed_no_resource): no luck",
        ),
    ],
)
def test_what_nobody_minds_any_more_is_over(
    found: Managed | None, phase: Phase, reason: str
) -> None:
    seen = managed._over(found, {"phase": "lost"}, COST)
    assert (seen.phase, seen.reason) == (phase, reason)


def test_a_verdict_holds_once_nobody_minds_the_job_any_more() -> None:
    state = {"phase": "failed", "exit_code": 143, "reason": "train was killed by SIGTERM"}
    seen = managed._over(row("FAILED", at_work=False), state, COST)
    assert (seen.phase, seen.exit_code) == (Phase.FAILED, 143)


@pytest.mark.parametrize(
    ("status", "at_work", "over"),
    [
        ("SUCCEEDED", False, True),
        ("SUCCEEDED", True, False),  # its cluster may still be there
        ("FAILED_SETUP", False, True),
        ("CANCELLING", False, False),
        ("RUNNING", True, False),
    ],
)
def test_over_is_over_and_let_go_of(status: str, at_work: bool, over: bool) -> None:
    assert row(status, at_work=at_work).over is over


def test_what_was_brought_from_a_bucket_goes_with_the_last_job_that_wanted_it() -> None:
    kept: dict[str, Any] = {"lease": "x", "created_at": "", "stage": Stage.STARTED}
    jobs = {
        "a": JobNote(**kept, brought=("first", "second")),
        "b": JobNote(**kept, brought=("second",)),
        "first": JobNote(**kept),
    }
    cluster = Cluster("c", "", jobs=jobs)
    assert _only_for(cluster, "a") == set(), "one is a job of the cluster's own"
    assert _only_for(cluster.without("first"), "a") == {"first"}
    gone = cluster.noted("a", stage=Stage.RELEASED)
    assert _only_for(gone, "b") == {"second"}


def test_a_record_keeps_what_was_brought(tmp_path: Path) -> None:
    records = Records(tmp_path)
    note = JobNote("x", "", brought=("first",))
    records.save(Cluster("c", "", store="s3://b", jobs={"a": note}))
    assert records.get("c") == Cluster("c", "", store="s3://b", jobs={"a": note})


def test_a_row_of_the_queue_is_read() -> None:
    found = _row(
        {
            "job_id": 7,
            "job_name": "ftlaunch-a",
            "status": "RUNNING",
            "schedule_state": "ALIVE",
            "region": "tiny",
            "recovery_count": 2,
            "job_duration": 12.5,
            "submitted_at": 5.0,
            "failure_reason": None,
        }
    )
    assert found == Managed(7, "ftlaunch-a", "RUNNING", True, "tiny", 2, 12.5, 5.0, "")
    assert _row({"job_id": 7, "region": "-"}).region == ""
