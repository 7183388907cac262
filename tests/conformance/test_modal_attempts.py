"""One job in many containers: a day that is too short, deaths, and a Volume that is full."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from modal_rig import OnModal, modal
from step_trainer import trainer

from backends.lease import Lease, Phase, Signal
from backends.modal import backend
from backends.modal.account import Account
from backends.modal.backend import PACE
from backends.modal.ftlaunch_job import NOTE
from backends.modal.shelf import RUNS
from backends.protocol import silent
from backends.testing import programs
from backends.testing.bench import Bench
from launcher.run.logs import LogReader


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[OnModal]:
    with modal(tmp_path / "cloud", tmp_path / "state") as made:
        yield made


@pytest.fixture
def bench(rig: OnModal, tmp_path: Path) -> Iterator[Bench]:
    made = Bench(rig, tmp_path / "here")
    yield made
    made.clean()


def call(rig: OnModal, lease: Lease) -> dict[str, object]:
    """The call of a job, as the provider sees it."""
    state = rig.provider.state
    (app,) = [one["id"] for one in state["apps"] if one["description"].endswith(lease.job)]
    return rig.provider.call_of(app)


def followed(bench: Bench, lease: Lease) -> list[tuple[int, str]]:
    """The log as a follower sees it come in, to the job's end."""
    reader = LogReader(bench.rig.backend(), lease.files)
    lines: list[tuple[int, str]] = []
    end = time.monotonic() + 90
    while True:
        seen = bench.backend.observe(lease)
        lines += [(line.seq, line.text) for line in reader.lines(seen.state or {})]
        if seen.phase.ended:
            assert seen.phase is Phase.SUCCEEDED, seen
            return lines
        assert time.monotonic() < end, lines
        time.sleep(0.1)


def assert_one_story(lines: list[tuple[int, str]], steps: int) -> None:
    """No number is missing or comes twice, and each step was done."""
    numbers = [number for number, _ in lines]
    assert numbers == list(range(1, len(numbers) + 1))
    done = {text for _, text in lines if text.startswith("step ")}
    assert done == {f"step {number}" for number in range(1, steps + 1)}


def test_what_takes_longer_than_an_attempt_may_is_chained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A provider's day is 40 seconds here, and an attempt ends by itself after ten."""
    monkeypatch.setenv(PACE, "8550")
    with modal(tmp_path / "cloud", tmp_path / "state", speed=2160) as rig:
        bench = Bench(rig, tmp_path / "here")
        lease = bench.launch(trainer(bench, 200))
        lines = followed(bench, lease)
        assert_one_story(lines, 200)
        attempts = int(str(call(rig, lease)["attempts"]))
        assert attempts >= 2
        # An orderly end keeps a checkpoint: of the steps few are done twice.
        assert sum(text.startswith("step ") for _, text in lines) <= 200 + attempts * 10
        bench.clean()


def test_the_log_is_one_story_through_deaths(rig: OnModal, bench: Bench) -> None:
    lease = bench.launch(trainer(bench, 120))
    reader = LogReader(bench.rig.backend(), lease.files)
    lines: list[tuple[int, str]] = []
    for deaths in range(1, 3):
        wanted = f"step {20 * deaths}"
        while wanted not in {text for _, text in lines}:
            seen = bench.backend.observe(lease)
            assert not seen.phase.ended, seen
            lines += [(line.seq, line.text) for line in reader.lines(seen.state or {})]
            time.sleep(0.1)
        rig.provider.kill(str(call(rig, lease)["id"]))
    while not (seen := bench.backend.observe(lease)).phase.ended:
        lines += [(line.seq, line.text) for line in reader.lines(seen.state or {})]
        time.sleep(0.1)
    assert seen.phase is Phase.SUCCEEDED, seen
    lines += [(line.seq, line.text) for line in reader.lines(seen.state or {})]
    assert_one_story(lines, 120)
    assert lines == followed(bench, lease)  # and afterwards, from another process
    assert int(str(call(rig, lease)["attempts"])) == 3


def test_a_full_volume_does_not_end_a_training(rig: OnModal, bench: Bench) -> None:
    """What it does not take is taken when there is room again; nothing is trained twice."""
    lease = bench.launch(trainer(bench, 80))
    bench.until(
        "a checkpoint", lambda: bench.content_if_there(lease.files, "output/checkpoint-5/last")
    )
    rig.provider.admin("limit", volume="ftlaunch-runs", limit=1)
    time.sleep(10)  # it has ended meanwhile, and waits with its results
    assert not bench.backend.observe(lease).phase.ended
    rig.provider.admin("limit", volume="ftlaunch-runs", limit=None)
    seen = bench.wait(lease)
    assert seen.phase is Phase.SUCCEEDED, seen
    assert bench.content(lease.files, "output/model") == b"trained"
    assert call(rig, lease)["attempts"] == 1
    assert_one_story(followed(bench, lease), 80)


def test_a_death_while_the_volume_is_full_is_gone_on_from(rig: OnModal, bench: Bench) -> None:
    """The next container has nowhere to write, either: it works all the same."""
    lease = bench.launch(trainer(bench, 60))
    first = "output/checkpoint-5/last"
    bench.until("a checkpoint", lambda: bench.content_if_there(lease.files, first))
    rig.provider.admin("limit", volume="ftlaunch-runs", limit=1)
    rig.provider.kill(str(call(rig, lease)["id"]))
    time.sleep(5)
    assert not bench.backend.observe(lease).phase.ended
    rig.provider.admin("limit", volume="ftlaunch-runs", limit=None)
    seen = bench.wait(lease)
    assert seen.phase is Phase.SUCCEEDED, seen
    assert bench.content(lease.files, "output/model") == b"trained"
    assert call(rig, lease)["attempts"] == 2


def test_an_end_at_once_needs_nobody_who_hears_it(
    rig: OnModal, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its container was taken, and there is no GPU for another: it looks as if it ran."""
    monkeypatch.setattr(backend, "OBEY_S", 2.0)
    offer = replace(rig.offer(), gpu="T4", count=1, data={"gpus": "T4:1"})
    job = bench.job(programs.STUBBORN)
    lease = bench.backend.launch(job, offer, on_lease=bench.remember, progress=silent)
    bench.wait_ready(lease)
    rig.provider.set(full=["T4"])
    rig.provider.kill(str(call(rig, lease)["id"]))
    assert bench.backend.observe(lease).phase is Phase.RUNNING
    bench.backend.signal(lease, Signal.STOP, grace=timedelta())
    assert bench.backend.observe(lease).phase is Phase.STOPPED
    assert rig.provider.billing() == []


def test_a_container_that_has_not_yet_said_how_it_stands_is_no_queue(
    rig: OnModal, bench: Bench
) -> None:
    """Its GPU is there and bills: nobody may take it for a job that waits."""
    rig.provider.set(full=["T4"])
    offer = replace(rig.offer(), gpu="T4", count=1, data={"gpus": "T4:1"})
    job = bench.job(programs.STUBBORN)
    lease = bench.backend.launch(job, offer, on_lease=bench.remember, progress=silent)
    assert bench.backend.observe(lease).phase is Phase.QUEUED
    with Account(rig.options.environ).volume(RUNS).batch_upload() as batch:
        # The first thing that a container writes.
        batch.put_file(io.BytesIO(b'{"call": "fc", "app": "ap"}'), f"/{lease.job}/{NOTE}")
    seen = bench.backend.observe(lease)
    assert (seen.phase, seen.reason) == (Phase.STARTING, "its container starts")
