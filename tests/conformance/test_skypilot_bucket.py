"""Managed jobs that are kept in a bucket: real SkyPilot and Slurm, and moto's S3."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest
from bucket_rig import URL, Bucket, bucket
from sky_rig import OnSky, skypilot
from step_trainer import trainer

from backends.job import Attached, LocalTree, Secrets
from backends.lease import Keep, Lease, Observation, Phase
from backends.offer import Need
from backends.protocol import silent
from backends.skypilot.backend import SkyPilot
from backends.testing.bench import Bench
from launcher.run.logs import LogReader

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.timeout(1200),
    # What SkyPilot is warned of by the libraries it stands on is its own affair.
    *(pytest.mark.filterwarnings(f"ignore::{kind}") for kind in ("DeprecationWarning", "Warning")),
]
CANARY = "canary-in-a-coal-mine"
SMALL = Need(cpu_only=True, cpus=1, memory_gib=1)
STEPS = 250


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bucket]:
    with bucket(tmp_path_factory.mktemp("bucket")) as made:
        yield made


@pytest.fixture(scope="module")
def rig(lab: Bucket, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnSky]:
    folder, state = tmp_path_factory.mktemp("sky"), tmp_path_factory.mktemp("state")
    # The machines' own Python has the bucket's library: to fetch it here proves nothing more.
    programs = tmp_path_factory.mktemp("programs")
    (programs / "python3").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (programs / "python3").chmod(0o755)
    with skypilot(folder, state, detail="slurm/tiny", software=programs) as made:
        lab.lay_out(made.provider.home.slurm)
        yield made


@pytest.fixture
def bench(rig: OnSky, tmp_path: Path) -> Iterator[Bench]:
    made = Bench(rig, tmp_path / "here")
    yield made
    made.clean()
    assert rig.provider.still_held() == []


def eventually(look: object, bench: Bench, lease: Lease, patience_s: float = 400) -> None:
    end = time.monotonic() + patience_s
    while not look():  # type: ignore[operator]
        assert time.monotonic() < end, bench.backend.observe(lease)
        time.sleep(1)


def ended(bench: Bench, lease: Lease) -> Observation:
    seen = bench.backend.observe(lease)

    def over() -> bool:
        nonlocal seen
        seen = bench.backend.observe(lease)
        return seen.phase.ended

    eventually(over, bench, lease)
    return seen


def local_disks(rig: OnSky, job: str) -> list[Path]:
    """The job's run directories on the nodes."""
    return [path for path in rig.provider.home.slurm.rglob(f"ftlaunch/runs/{job}") if path.is_dir()]


@pytest.mark.seldom
def test_it_goes_on_from_the_bucket_on_another_machine(
    rig: OnSky, bench: Bench, lab: Bucket, tmp_path: Path
) -> None:
    """Its node is taken away with its disk; what it was given and what it left is in the bucket."""
    given = LocalTree((bench.file("data.jsonl", b"rows of data"),))
    job = replace(trainer(bench, STEPS), secrets=Secrets({"HF_TOKEN": CANARY}), inputs=(given,))
    where = bench.backend.offers(replace(SMALL, recover=True, store=URL), live=True)[0]
    assert where.keeps == URL
    lease = bench.backend.launch(job, where, on_lease=bench.remember, progress=silent)

    def two_checkpoints() -> bool:
        whole = lab.store()._objects.sizes(f"jobs/{job.name}/whole")
        return len(whole) >= 2

    eventually(two_checkpoints, bench, lease)
    elsewhere = SkyPilot(replace(rig.options, state_dir=tmp_path / "elsewhere"))
    (found,) = elsewhere.leases()
    assert found.job == lease.job
    assert elsewhere.observe(found).phase is Phase.RUNNING
    first = PurePosixPath("logs/only/000001.log")
    said = b"".join(elsewhere.read(found.files, first, offset=0, follow=False))
    (allocation,) = rig.provider.allocations()
    disks = local_disks(rig, job.name)
    rig.provider.slurm("scancel", "--name", allocation)
    eventually(lambda: allocation not in rig.provider.allocations(), bench, lease)
    for path in disks:
        shutil.rmtree(path, ignore_errors=True)
    seen = ended(bench, lease)
    assert seen.phase is Phase.SUCCEEDED, f"{seen}; {bench.logs(lease)}"
    assert (seen.state or {})["attempt"] >= 2
    lines = list(LogReader(rig.backend(), lease.files).lines(seen.state or {}))
    assert [line.seq for line in lines] == list(range(1, len(lines) + 1))
    texts = {line.text for line in lines}
    assert any("goes on from output/checkpoint-" in text for text in texts), texts
    assert {f"step {number}" for number in range(1, STEPS + 1)} <= texts
    again = b"".join(elsewhere.read(found.files, first, offset=0, follow=False))
    assert again.startswith(said)
    into = tmp_path / "fetched"
    elsewhere.fetch(found.files, [PurePosixPath("output/model")], into)
    assert (into / "output/model").read_bytes() == b"trained"
    assert not [name for name, content in lab.contents().items() if CANARY.encode() in content]
    databases = [*(rig.provider.home.sky / ".sky").rglob("*.db*")]
    assert databases
    assert not [path for path in databases if CANARY.encode() in path.read_bytes()]
    files = bench.backend.release(lease, keep=Keep.FILES)
    assert files == lease.files
    assert rig.backend().leases() == []
    look = bench.job(
        "print(open('inputs/first/output/model').read())",
        inputs=(Attached(files, PurePosixPath("inputs/first")),),
    )
    small = bench.backend.offers(SMALL, live=True)[0]
    second = bench.backend.launch(look, small, on_lease=bench.remember, progress=silent)
    assert bench.wait(second).phase is Phase.SUCCEEDED, bench.logs(second)
    assert "trained" in bench.logs(second)
    bench.backend.release(second, keep=Keep.NOTHING)
    bench.backend.discard(files)
    assert lab.contents() == {}
    shared = rig.provider.home.slurm / "ftlaunch" / "runs"
    assert not list(shared.glob("suite-*"))
