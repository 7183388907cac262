"""Clusters that are made for a job: found again, never forgotten, gone when they should be."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest
from sky_rig import OnSky, skypilot

from backends.errors import NoCapacity, Unreachable
from backends.job import Attached
from backends.lease import Keep, Lease, Phase
from backends.offer import Need, Offer
from backends.protocol import silent
from backends.skypilot.leases import cluster_name
from backends.skypilot.offers import IDLE_SHARED
from backends.skypilot.records import Cluster
from backends.skypilot.server import Server
from backends.testing import child, programs
from backends.testing.bench import Bench

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.timeout(1800),
    # What SkyPilot is warned of by the libraries it stands on is its own affair.
    *(pytest.mark.filterwarnings(f"ignore::{kind}") for kind in ("DeprecationWarning", "Warning")),
]
SMALL = Need(cpu_only=True, cpus=1, memory_gib=1)


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


def small(bench: Bench) -> Offer:
    """One core and a GiB."""
    return bench.backend.offers(SMALL, live=True)[0]


def server(rig: OnSky) -> Server:
    return Server(rig.options.environ)


def finished(bench: Bench, lease: Lease) -> None:
    seen = bench.wait(lease)
    assert seen.phase is Phase.SUCCEEDED, f"{seen}; {bench.logs(lease)}"


def test_a_cluster_for_a_job_and_what_it_leaves(
    rig: OnSky, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes itself down if nobody does, and its files outlive it for the next one."""
    offer = small(bench)
    assert offer.price.amount > 0
    first = bench.backend.launch(
        bench.job(programs.HELLO, inputs=()), offer, on_lease=bench.remember, progress=silent
    )
    (row,) = server(rig).clusters(cluster_name(first.job))
    assert (row.status, row.autostop, row.down) == ("UP", IDLE_SHARED, True)
    assert [lease.job for lease in rig.backend().leases()] == [first.job]
    said = {finding.subject: finding for finding in rig.backend().check()}
    assert (said["clouds"].ok, said["clouds"].detail) == (True, "slurm")
    with monkeypatch.context() as patch:
        patch.setattr(Server, "enabled_clouds", lambda self: [])
        (bad,) = [finding for finding in rig.backend().check() if not finding.ok]
    # There is a cluster: it is not as if nobody had set SkyPilot up.
    assert (bad.subject, bad.unset) == ("clouds", False)
    assert "sky check" in bad.hint
    finished(bench, first)
    cost = bench.backend.observe(first).cost
    assert cost is not None
    assert cost.amount > 0
    files = bench.backend.release(first, keep=Keep.FILES)
    assert files == first.files
    assert rig.provider.still_held() == []
    assert rig.backend().leases() == []
    assert b"hello" in bench.content(files, "logs/only/000001.log")
    before = rig.uploaded_bytes()
    look = bench.job(
        "print(open('inputs/first/logs/only/000001.log').read())",
        inputs=(Attached(files, PurePosixPath("inputs/first")),),
    )
    second = bench.backend.launch(look, offer, on_lease=bench.remember, progress=silent)
    finished(bench, second)
    assert "hello" in bench.logs(second)
    assert rig.uploaded_bytes() == before
    assert bench.backend.release(second, keep=Keep.NOTHING) is None
    bench.backend.discard(files)
    assert not list((rig.provider.home.slurm / "ftlaunch" / "runs").glob("suite-*"))


@pytest.mark.seldom
def test_a_launch_that_is_cut_short_is_found_and_done_once(rig: OnSky, bench: Bench) -> None:
    """The launcher dies while its cluster is being made, and another one goes on."""
    job = child.one_step(bench.new_name(), bench.argv(programs.ENDS_LATER, "0"))
    asked = {"do": "launch", "job": job.name, "argv": job.plan.steps[0].argv}
    with child.begun(rig, **asked) as launching:
        bench.until("an allocation", lambda: rig.provider.allocations() or None)
        launching.kill()
    (lease,) = rig.backend().leases()  # of a launcher that is no more
    assert lease.job == job.name
    assert rig.backend().observe(lease).phase is Phase.LOST
    again = bench.backend.launch(job, small(bench), on_lease=bench.remember, progress=silent)
    finished(bench, again)
    assert bench.content(again.files, "output/starts") == b"started\n"
    assert len(rig.provider.allocations()) == 1


@pytest.mark.seldom
def test_the_api_server_dies_in_the_middle(rig: OnSky, bench: Bench) -> None:
    """What runs goes on; nobody guesses; and the new server knows all of it."""
    lease = bench.backend.launch(
        bench.job(programs.ENDS_LATER, "20"), small(bench), on_lease=bench.remember, progress=silent
    )
    rig.provider.end_server()
    try:
        # A connection that was there may live on; nobody who has to make one can know.
        assert rig.backend().observe(lease).phase in {Phase.UNKNOWN, Phase.RUNNING}
        with pytest.raises(Unreachable):
            rig.backend().leases()
    finally:
        rig.provider.start_server()
    finished(bench, lease)
    assert bench.content(lease.files, "output/done") == b"done"


@pytest.mark.seldom
def test_another_server_is_not_believed(rig: OnSky, bench: Bench) -> None:
    """It has never heard of the cluster, which bills all the same."""
    lease = bench.backend.launch(
        bench.job(programs.STUBBORN), small(bench), on_lease=bench.remember, progress=silent
    )
    bench.wait_ready(lease)
    with skypilot(bench.folder / "other", rig.options.state_dir) as other:
        elsewhere = other.backend()
        seen = elsewhere.observe(lease)
        assert seen.phase in {Phase.UNKNOWN, Phase.RUNNING}, seen
    assert bench.backend.observe(lease).phase is Phase.RUNNING


def test_what_somebody_else_takes_away_has_ended_and_its_files_are_there(
    rig: OnSky, bench: Bench
) -> None:
    """An administrator ends the allocation; SkyPilot finds out."""
    lease = bench.backend.launch(
        bench.job(programs.STUBBORN), small(bench), on_lease=bench.remember, progress=silent
    )
    bench.wait_ready(lease)
    rig.provider.slurm("scancel", "--name", rig.provider.on_cloud(cluster_name(lease.job)))
    end = time.monotonic() + 120
    while not (seen := bench.backend.observe(lease)).phase.ended:
        assert time.monotonic() < end, seen
        time.sleep(1)
    # Slurm ends it with a signal first, which its runner takes for a wish to stop.
    assert seen.phase in {Phase.STOPPED, Phase.LOST}, seen
    assert bench.content_if_there(lease.files, "output/ready") is not None
    bench.backend.release(lease, keep=Keep.NOTHING)


@pytest.mark.seldom
def test_a_node_dies_and_what_was_made_until_then_is_there(rig: OnSky, bench: Bench) -> None:
    """With all that ran on it; nobody is left to say so but Slurm."""
    lease = bench.backend.launch(
        bench.job(programs.STUBBORN), small(bench), on_lease=bench.remember, progress=silent
    )
    bench.wait_ready(lease)
    (node,) = rig.provider.clusters[0].nodes
    rig.provider.lose_node(node)
    try:
        end = time.monotonic() + 120
        while not (seen := bench.backend.observe(lease)).phase.ended:
            assert time.monotonic() < end, seen
            time.sleep(1)
        assert seen.phase is Phase.LOST, seen
        assert bench.content_if_there(lease.files, "output/ready") is not None
        bench.backend.release(lease, keep=Keep.NOTHING)
        assert rig.backend().leases() == []
    finally:
        rig.provider.bring_back(node)


def test_where_nothing_is_free_nothing_is_left(rig: OnSky, bench: Bench) -> None:
    """Two of the node's GPUs are taken: a third has to wait longer than anybody does."""
    (cheapest,) = bench.backend.offers(Need(), live=True)
    assert (cheapest.gpu, cheapest.count) == ("H100", 1), "nobody asked for a kind"
    need = Need(gpus=(("H100", 2),), cpus=1, memory_gib=1)
    offer = bench.backend.offers(need, live=True)[0]
    assert (offer.gpu, offer.count) == ("H100", 2)
    lease = bench.backend.launch(
        bench.job(programs.STUBBORN), offer, on_lease=bench.remember, progress=silent
    )
    with pytest.raises(NoCapacity) as refused:
        bench.backend.launch(
            bench.job(programs.HELLO), offer, on_lease=bench.remember, progress=silent
        )
    assert refused.value.hint
    assert [one.job for one in rig.backend().leases()] == [lease.job]
    assert bench.backend.offers(replace(need, gpus=(("H100", 3),)), live=True) == []


@pytest.mark.seldom
def test_a_disk_that_goes_with_its_cluster(
    rig: OnSky, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a cloud: what is to be kept is here before the cluster is gone, and sent again."""
    monkeypatch.setattr(Cluster, "shared", property(lambda self: False))
    offer = small(bench)
    first = bench.backend.launch(
        bench.job(programs.HELLO), offer, on_lease=bench.remember, progress=silent
    )
    finished(bench, first)
    files = bench.backend.release(first, keep=Keep.FILES)
    assert files == first.files
    assert rig.provider.still_held() == []
    for path in (rig.provider.home.slurm / "ftlaunch" / "runs").glob("*suite-*"):
        path.rename(path.with_name(f"gone-{path.name}"))
    assert b"hello" in bench.content(files, "logs/only/000001.log")
    look = bench.job(
        "print(open('inputs/first/logs/only/000001.log').read())",
        inputs=(Attached(files, PurePosixPath("inputs/first")),),
    )
    second = bench.backend.launch(look, offer, on_lease=bench.remember, progress=silent)
    finished(bench, second)
    assert "hello" in bench.logs(second)
    bench.backend.release(second, keep=Keep.NOTHING)
    bench.backend.discard(files)
    assert bench.content_if_there(files, "state.json") is None
