"""What an account at Modal has: secrets it keeps, a bill, what a lost computer left there."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest
from modal_rig import OnModal, modal

from backends.job import Environment, Secrets
from backends.lease import Keep, Phase
from backends.protocol import silent
from backends.testing import programs
from backends.testing.bench import Bench

VARIABLES = """
import json, os
os.makedirs("output", exist_ok=True)
with open("output/seen.json", "w") as file:
    json.dump({name: os.environ.get(name) for name in ("KEPT", "BOTH", "GIVEN")}, file)
"""
IMAGE = f"somebody/axolotl@sha256:{'0' * 64}"


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnModal]:
    with modal(tmp_path_factory.mktemp("cloud"), tmp_path_factory.mktemp("state")) as made:
        yield made


@pytest.fixture
def bench(rig: OnModal, tmp_path: Path) -> Iterator[Bench]:
    made = Bench(rig, tmp_path / "here")
    yield made
    made.clean()


def elsewhere(rig: OnModal, folder: Path) -> OnModal:
    """Another computer of the same account."""
    return replace(rig, options=replace(rig.options, state_dir=folder))


def test_a_secret_that_modal_keeps_is_given_below_the_callers_own(
    rig: OnModal, bench: Bench
) -> None:
    rig.provider.admin("secret", name="my-keys", values={"KEPT": "there", "BOTH": "there"})
    mine = Secrets({"BOTH": "here", "GIVEN": "here"})
    lease = bench.run(VARIABLES, kept_secrets=("my-keys",), secrets=mine)
    assert bench.json(lease.files, "output/seen.json") == {
        "KEPT": "there",
        "BOTH": "here",
        "GIVEN": "here",
    }


def test_a_published_image_is_used_as_it_is_and_tried_first(rig: OnModal, bench: Bench) -> None:
    hints = {"modal": {"image": IMAGE, "imports": "json os"}}
    bench.run(programs.HELLO, environment=Environment(hints=hints))
    commands = ["\n".join(one) for one in rig.provider.state["images"]]
    assert any(f"FROM {IMAGE}" in one for one in commands), commands
    assert any("import json, os" in one for one in commands), commands


def test_check_names_what_is_billed_by_the_month(rig: OnModal, bench: Bench) -> None:
    bench.run(programs.HELLO)
    said = {finding.subject: finding.detail for finding in bench.backend.check()}
    assert said["volumes"].startswith("ftlaunch-caches, ftlaunch-lasting, ftlaunch-runs: billed")


def test_a_disk_that_is_asked_for_is_requested(rig: OnModal, bench: Bench) -> None:
    offer = replace(rig.offer(), disk_gib=1000)
    lease = bench.backend.launch(
        bench.job(programs.HELLO), offer, on_lease=bench.remember, progress=silent
    )
    assert bench.wait(lease).phase is Phase.SUCCEEDED
    assert rig.provider.state["functions"][-1]["disk_mb"] == 1000 * 1024


def test_the_bill_is_modal_s_own_and_comes_late(rig: OnModal, bench: Bench) -> None:
    lease = bench.run(programs.ENDS_LATER, "1")
    assert bench.backend.billed(lease) is None, "this plan has no reports"
    rig.provider.set(has_reports=True)
    try:
        assert bench.backend.billed(lease) is None, "the hour is not over"
        rig.provider.set(hour_s=1.0)
        time.sleep(2.1)
        said = bench.backend.billed(lease)
    finally:
        rig.provider.set(has_reports=False, hour_s=3600.0)
    measured = bench.backend.observe(lease).cost
    assert said is not None
    assert measured is not None
    assert said.amount > 0
    assert said.currency == measured.currency
    other = replace(lease, job="ftl-nobody-train-000000")
    assert bench.backend.billed(other) is None


def test_what_a_lost_computer_left_is_found_by_another(
    rig: OnModal, bench: Bench, tmp_path: Path
) -> None:
    lease = bench.run(programs.MAKES_FILES, '{"a": 3}')
    kept = bench.run(programs.HELLO)
    bench.backend.release(kept, keep=Keep.FILES)
    other = elsewhere(rig, tmp_path / "other").backend()
    found = {one.job: one for one in other.leases()}
    assert lease.job in found, "its app has ended, and its results wait on the Volume"
    assert kept.job not in found, "that is kept on purpose"
    assert other.observe(found[lease.job]).phase is Phase.SUCCEEDED
    assert b"".join(
        other.read(found[lease.job].files, PurePosixPath("output/a"), offset=0, follow=False)
    )
    other.release(found[lease.job], keep=Keep.NOTHING)
    assert lease.job not in {
        one.job for one in elsewhere(rig, tmp_path / "third").backend().leases()
    }


def test_a_launch_that_is_being_laid_out_is_nobody_elses(rig: OnModal, tmp_path: Path) -> None:
    """Files without a container are another computer's launch, until they are old."""
    top = rig.provider.volume("ftlaunch-runs")
    plan = top / "ftl-young-train-aaaaaa" / "plan.json"
    plan.parent.mkdir()
    plan.write_text("{}")
    other = elsewhere(rig, tmp_path / "other").backend()
    assert plan.parent.name not in {one.job for one in other.leases()}
    long_ago = time.time() - 7200
    os.utime(plan, (long_ago, long_ago))
    assert plan.parent.name in {one.job for one in other.leases()}
    (lease,) = [one for one in other.leases() if one.job == plan.parent.name]
    other.release(lease, keep=Keep.NOTHING)
    assert not plan.exists()


DOWNLOADS = """
import os
os.makedirs(os.environ["HUB"], exist_ok=True)
with open(os.path.join(os.environ["HUB"], "model"), "w") as file:
    file.write("weights")
"""


def test_what_a_hub_gave_is_there_with_the_verdict(rig: OnModal, bench: Bench) -> None:
    """The next job may begin at once, and would download it again, while a GPU waits."""
    rig.provider.set(commit_every=3600)
    hints = {"modal": {"lasting": "HUB=hub"}}
    lease = bench.launch(bench.job(DOWNLOADS, environment=Environment(hints=hints)))
    state = rig.provider.volume("ftlaunch-runs") / lease.job / "state.json"
    end = time.monotonic() + 60
    while not state.exists() or b'"succeeded"' not in state.read_bytes():
        assert time.monotonic() < end
    # Its worker dies before it can commit at leisure, as the SDK does at a container's end.
    (app,) = [a for a in rig.provider.state["apps"] if a["description"].endswith(lease.job)]
    rig.provider.kill(rig.provider.call_of(app["id"])["id"])
    assert bench.wait(lease).phase is Phase.SUCCEEDED
    assert (rig.provider.volume("ftlaunch-lasting") / "hub" / "model").read_text() == "weights"


def test_what_another_computer_launched_is_not_launched_again(
    rig: OnModal, bench: Bench, tmp_path: Path
) -> None:
    """Two that finish the same run ask for its next job under the same name."""
    job = bench.job(programs.ENDS_LATER, "3")
    mine = bench.launch(job)
    theirs = elsewhere(rig, tmp_path / "other").backend()
    told: list[str] = []
    found = theirs.launch(
        job, rig.offer(), on_lease=lambda lease: told.append(lease.job), progress=silent
    )
    assert (found.job, told) == (mine.job, [mine.job])
    assert bench.wait(mine).phase is Phase.SUCCEEDED
    assert theirs.observe(found).phase is Phase.SUCCEEDED
    assert bench.content(mine.files, "output/starts") == b"started\n"
    assert sum(a["description"].endswith(job.name) for a in rig.provider.state["apps"]) == 1
    theirs.release(found, keep=Keep.NOTHING)


def test_what_another_computer_finished_is_said_so(
    rig: OnModal, bench: Bench, tmp_path: Path
) -> None:
    lease = bench.launch(bench.job(programs.HELLO))
    other = elsewhere(rig, tmp_path / "other").backend()
    bench.until("its end", lambda: other.observe(lease).phase.ended or None)
    other.release(lease, keep=Keep.NOTHING)
    seen = bench.backend.observe(lease)
    assert seen.phase is Phase.LOST
    assert "another computer" in seen.reason
