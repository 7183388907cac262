"""The loopback provider is as unkind as Modal: a launcher that relies on kindness loses its run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import modal
import pytest
from clouds.modal.checks.watching import Spawn, running, until
from clouds.modal.cloud import Cloud


def names(volume: Any) -> list[str]:
    return [entry.path for entry in volume.listdir("/", recursive=True)]


@pytest.mark.parametrize("commit", [False, True])
def test_what_was_not_committed_is_seen_by_nobody_and_lost_when_killed(
    cloud: Cloud, volume: Any, spawn: Spawn, commit: bool
) -> None:
    call = spawn("writes", "precious", 60, commit=commit)
    running(cloud, call, "written")
    assert names(volume) == (["precious"] if commit else [])
    app = next(c["app"] for c in cloud.state["calls"] if c["id"] == call.object_id)
    cloud.admin("stop", app=app)
    assert names(volume) == (["precious"] if commit else [])


def test_a_clean_end_commits(cloud: Cloud, volume: Any, spawn: Spawn) -> None:
    assert spawn("writes", "late", 0, commit=False).get(timeout=60) == "done"
    assert names(volume) == ["late"]


def test_what_runs_is_committed_now_and_then(cloud: Cloud, volume: Any, spawn: Spawn) -> None:
    cloud.set(commit_every=0.5)
    running(cloud, spawn("writes", "late", 60, commit=False), "written")
    until("a background commit", lambda: names(volume) == ["late"])


def test_a_worker_that_dies_begins_the_call_again(cloud: Cloud, spawn: Spawn) -> None:
    call = spawn("counts", 60)
    starts = cloud.volume("ftlaunch-runs") / "starts"
    until("a first start", starts.exists)
    cloud.kill(call.object_id)
    assert call.get(timeout=60) == 2
    assert cloud.call_of(cloud.state["calls"][0]["app"])["retries"] == 0


def test_a_preemption_is_heard_and_then_deadly(cloud: Cloud, spawn: Spawn) -> None:
    call = spawn("hears", "heard")
    running(cloud, call, "listening")
    cloud.preempt(call.object_id, grace=10)
    assert call.get(timeout=60) == "KeyboardInterrupt"


def test_a_cancel_arrives_in_the_middle_of_the_work(
    cloud: Cloud, volume: Any, spawn: Spawn
) -> None:
    call = spawn("hears", "cancelled")
    running(cloud, call, "listening")
    call.cancel()
    until("its end", lambda: all(one["over"] for one in cloud.state["calls"]))
    assert b"".join(volume.read_file("cancelled")) == b"InputCancellation"


@pytest.mark.parametrize("held", [False, True])
def test_a_reload_fails_while_a_file_is_open(spawn: Spawn, held: bool) -> None:
    said = spawn("reloads", held=held).get(timeout=60)
    assert ("open files" in said) is held


def test_retries_are_as_many_as_were_asked_for(spawn: Spawn) -> None:
    assert spawn("fails", 2, retries=2).get(timeout=60) == 3
    with pytest.raises(RuntimeError, match="on purpose"):
        spawn("fails", 9, retries=1).get(timeout=60)


def test_an_attempt_ends_at_its_limit(spawn: Spawn) -> None:
    with pytest.raises(modal.exception.FunctionTimeoutError):
        spawn("writes", "x", 60, commit=False, limit=2).get(timeout=60)


def test_without_capacity_a_call_waits(cloud: Cloud, spawn: Spawn) -> None:
    cloud.set(full=["H100"])
    call = spawn("writes", "x", 0, commit=True, gpu=["H100", "A100-80GB"])
    assert call.get(timeout=60) == "done"
    assert cloud.state["calls"][0]["gpu"] == "A100-80GB"
    waiting = spawn("writes", "y", 0, commit=True, gpu="H100")
    with pytest.raises(TimeoutError):
        waiting.get(timeout=1)
    assert cloud.state["calls"][1]["attempts"] == 0
    cloud.set(full=[])
    assert waiting.get(timeout=60) == "done"


def test_nothing_is_billed_but_containers(cloud: Cloud, spawn: Spawn) -> None:
    call = spawn("writes", "x", 60, commit=False, gpu="L4")
    running(cloud, call, "written")
    (span,) = cloud.billing()
    assert span["gpu"] == "L4"
    cloud.admin("stop", app=span["app"])
    assert cloud.billing() == []


def test_the_command_line_works_against_it(cloud: Cloud, spawn: Spawn) -> None:
    spawn("writes", "seen", 0, commit=True).get(timeout=60)
    program = str(Path(sys.executable).with_name("modal"))
    listed = subprocess.run(
        [program, "volume", "ls", "ftlaunch-runs"], capture_output=True, text=True, check=True
    )
    assert "seen" in listed.stdout
    listing = [program, "app", "list", "--json"]
    apps = subprocess.run(listing, capture_output=True, text=True, check=True)
    assert "check-writes" in apps.stdout
