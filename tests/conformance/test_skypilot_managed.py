"""Managed jobs: SkyPilot makes their machines, takes them down, and makes them again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path, PurePosixPath

import pytest
from sky_rig import OnSky, skypilot
from step_trainer import trainer

from backends.errors import Refused
from backends.job import Attached
from backends.lease import Keep, Lease, Observation, Phase, Signal
from backends.offer import Need, Offer
from backends.protocol import silent
from backends.skypilot.backend import SkyPilot
from backends.skypilot.leases import cluster_name
from backends.testing import programs
from backends.testing.bench import Bench
from launcher.run.logs import LogReader

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.timeout(900),
    # What SkyPilot is warned of by the libraries it stands on is its own affair.
    *(pytest.mark.filterwarnings(f"ignore::{kind}") for kind in ("DeprecationWarning", "Warning")),
]
RECOVERS = Need(cpu_only=True, cpus=1, memory_gib=1, recover=True)


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnSky]:
    folder, state = tmp_path_factory.mktemp("sky"), tmp_path_factory.mktemp("state")
    with skypilot(folder, state, detail="slurm/tiny") as made:
        yield made


@pytest.fixture
def bench(rig: OnSky, tmp_path: Path) -> Iterator[Bench]:
    made = Bench(rig, tmp_path / "here")
    yield made
    made.clean()
    assert rig.provider.still_held() == []


def offer(bench: Bench) -> Offer:
    """One core and a GiB, taken up again by itself."""
    found = bench.backend.offers(RECOVERS, live=True)[0]
    assert found.ends
    assert "newest checkpoint" in found.alone
    return found


def launched(bench: Bench, steps: int) -> Lease:
    return bench.backend.launch(
        trainer(bench, steps), offer(bench), on_lease=bench.remember, progress=silent
    )


def until_it_has(bench: Bench, lease: Lease, checkpoint: int) -> None:
    """Until that checkpoint, or a later one, is there."""

    def there() -> bool:
        rows = (bench.backend.observe(lease).state or {}).get("checkpoints") or []
        return any(int(row["path"].rpartition("-")[2]) >= checkpoint for row in rows)

    eventually(there, bench, lease)


def eventually(look: object, bench: Bench, lease: Lease, patience_s: float = 300) -> None:
    end = time.monotonic() + patience_s
    while not look():  # type: ignore[operator]
        assert time.monotonic() < end, bench.backend.observe(lease)
        time.sleep(0.5)


def ended(bench: Bench, lease: Lease) -> Observation:
    seen = None

    def over() -> bool:
        nonlocal seen
        seen = bench.backend.observe(lease)
        return seen.phase.ended

    eventually(over, bench, lease)
    assert seen is not None
    return seen


def given(rig: OnSky) -> list[Path]:
    """What lies on the shared disk to start runners with: it holds their secrets."""
    return list((rig.provider.home.slurm / "ftlaunch" / "runs").glob(".*.given"))


def test_its_node_is_taken_away_and_it_ends_with_the_same_steps(rig: OnSky, bench: Bench) -> None:
    """`scancel`, as an administrator has it: a signal, a grace, and the kill."""
    lease = launched(bench, 150)
    assert [one.job for one in rig.backend().leases()] == [lease.job]
    until_it_has(bench, lease, 5)
    before = rig.provider.allocations()
    assert len(before) == 1
    rig.provider.slurm("scancel", "--name", before[0])
    seen = ended(bench, lease)
    assert seen.phase is Phase.SUCCEEDED, f"{seen}; {bench.logs(lease)}"
    lines = list(LogReader(rig.backend(), lease.files).lines(seen.state or {}))
    assert [line.seq for line in lines] == list(range(1, len(lines) + 1))
    said = {line.text for line in lines}
    assert any("goes on from output/checkpoint-" in text for text in said), said
    assert {f"step {number}" for number in range(1, 151)} <= said
    assert (seen.state or {})["attempt"] >= 2
    assert seen.cost is not None
    assert seen.cost.amount > 0
    assert bench.content(lease.files, "output/model") == b"trained"
    assert given(rig) == []
    files = bench.backend.release(lease, keep=Keep.FILES)
    assert files == lease.files
    assert rig.backend().leases() == []
    look = bench.job(
        "print(open('inputs/first/output/model').read())",
        inputs=(Attached(files, PurePosixPath("inputs/first")),),
    )
    small = bench.backend.offers(Need(cpu_only=True, cpus=1, memory_gib=1), live=True)[0]
    second = bench.backend.launch(look, small, on_lease=bench.remember, progress=silent)
    assert bench.wait(second).phase is Phase.SUCCEEDED
    assert "trained" in bench.logs(second)
    bench.backend.release(second, keep=Keep.NOTHING)
    bench.backend.discard(files)
    assert not list((rig.provider.home.slurm / "ftlaunch" / "runs").glob("suite-*"))


@pytest.mark.seldom
def test_a_wish_to_stop_ends_it_with_a_checkpoint_and_for_good(rig: OnSky, bench: Bench) -> None:
    lease = launched(bench, 100_000)
    until_it_has(bench, lease, 5)
    bench.backend.signal(lease, Signal.STOP, grace=timedelta(seconds=20))
    seen = ended(bench, lease)
    assert seen.phase is Phase.STOPPED, seen
    assert (seen.state or {})["attempt"] == 1
    bench.backend.release(lease, keep=Keep.NOTHING)
    assert rig.provider.still_held() == []
    assert rig.backend().leases() == []
    assert given(rig) == []


@pytest.mark.seldom
def test_what_fails_by_itself_is_not_tried_again(rig: OnSky, bench: Bench) -> None:
    job = trainer(bench, 1)
    broken = bench.job(programs.EXITS, "7", plan={"checkpoint": job.plan.checkpoint})
    lease = bench.backend.launch(broken, offer(bench), on_lease=bench.remember, progress=silent)
    seen = ended(bench, lease)
    assert (seen.phase, seen.exit_code) == (Phase.FAILED, 7)
    assert (seen.state or {})["attempt"] == 1
    bench.backend.release(lease, keep=Keep.NOTHING)


@pytest.mark.seldom
def test_another_computer_finds_it_and_ends_it(rig: OnSky, bench: Bench, tmp_path: Path) -> None:
    """It has the same API server, and nothing else."""
    lease = launched(bench, 100_000)
    until_it_has(bench, lease, 5)
    options = rig.options
    elsewhere = SkyPilot(type(options)(**{**vars(options), "state_dir": tmp_path / "elsewhere"}))
    (found,) = elsewhere.leases()
    assert found.job == lease.job
    assert elsewhere.observe(found).phase is Phase.RUNNING
    assert elsewhere.release(found, keep=Keep.NOTHING) is None
    assert rig.provider.still_held() == []
    seen = bench.backend.observe(lease)
    assert seen.phase in {Phase.LOST, Phase.STOPPED}, seen


def test_it_is_not_promised_where_there_is_no_disk_for_it(rig: OnSky) -> None:
    options = rig.options
    aws = SkyPilot(type(options)(**{**vars(options), "detail": "aws"}))
    with pytest.raises(Refused, match="a bucket, which nobody has named"):
        aws.offers(RECOVERS, live=True)


@pytest.mark.seldom
def test_a_broken_launch_leaves_nothing(
    rig: OnSky, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server takes the job in, and the answer is lost: nobody would know of it."""
    backend: SkyPilot = bench.backend  # type: ignore[assignment]
    where = offer(bench)
    job = trainer(bench, 100_000)

    def lost(task: object, name: str) -> str:
        type(backend._managed.queue).submit(backend._managed.queue, task, name)
        raise KeyboardInterrupt

    monkeypatch.setattr(backend._managed.queue, "submit", lost)
    with pytest.raises(KeyboardInterrupt):
        backend.launch(job, where, on_lease=bench.remember, progress=silent)
    assert rig.backend().leases() == []
    assert given(rig) == []
    name = cluster_name(job.name)
    assert all(row.over for row in backend._managed.queue.jobs(name, over=True))
