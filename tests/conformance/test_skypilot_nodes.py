"""Jobs of several nodes behind SkyPilot: a real Slurm of two nodes, and SkyPilot's own skylets."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path, PurePosixPath

import pytest
from sky_rig import OnSky, skypilot

from backends import rundir
from backends.errors import Unsupported
from backends.job import Attached, Job, LocalTree, Secrets
from backends.lease import Keep, Lease, Phase, Signal
from backends.offer import Need
from backends.plan import NodeFact, Plan, Step, StopRecipe
from backends.protocol import silent
from backends.skypilot.leases import cluster_name
from backends.skypilot.records import Cluster
from backends.testing import programs
from backends.testing.bench import Bench

GUEST = "mine"
SMALL = Need(gpus=(("H100", 1),), cpus=1, memory_gib=1, nodes=2)

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.timeout(2400),
    # What SkyPilot is warned of by the libraries it stands on is its own affair.
    *(pytest.mark.filterwarnings(f"ignore::{kind}") for kind in ("DeprecationWarning", "Warning")),
]

FIRST = """
import os, pathlib, sys
rank, address, port = sys.argv[1:]
print("rank", rank, "at", address, port, "of", os.environ["FTLAUNCH_NODE_ADDRESSES"].split())
print("bundle", open("bundle/data").read(), "secret", len(os.environ["WORD"]))
print("names", [name for name in os.environ if "TOKEN" in name or name.startswith("SKYPILOT")])
pathlib.Path("output/first").write_text(rank)
"""
SECOND = 'print("second sees the first of", open("output/first").read())'
STAYS = """
import os, time
os.makedirs("output", exist_ok=True)
open("output/ready", "w").write(str(os.getpid()))
print("stays", flush=True)
time.sleep(600)
"""
NODE_1_FAILS = """
import os, sys, time
print("here", flush=True)
if os.environ["FTLAUNCH_NODE_RANK"] == "1":
    sys.exit(7)
time.sleep(600)
"""
FACTS = (NodeFact("rank"), NodeFact("address"), NodeFact("port"))


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnSky]:
    folder, state = tmp_path_factory.mktemp("sky"), tmp_path_factory.mktemp("state")
    with skypilot(folder, state, detail=f"cluster/{GUEST}", clusters={"tiny": 2}) as made:
        made.patience = timedelta(minutes=4)
        yield made


@pytest.fixture(scope="module")
def guest(rig: OnSky) -> None:
    """Most jobs are guests: to make a cluster for each of them would take an hour."""
    rig.provider.make_cluster(GUEST, nodes=2)


@pytest.fixture
def bench(rig: OnSky, guest: None, tmp_path: Path) -> Iterator[Bench]:
    made = Bench(rig, tmp_path / "here")
    yield made
    made.clean()
    assert not list(folders(rig)), "every node's files are gone"


@pytest.fixture
def own(rig: OnSky, tmp_path: Path) -> Iterator[Bench]:
    """Where SkyPilot makes clusters."""
    made = Bench(
        replace(rig, options=replace(rig.options, detail="slurm/tiny")), tmp_path / "there"
    )
    yield made
    made.clean()


def folders(rig: OnSky) -> Iterator[Path]:
    """Every node's run directories of the tests' jobs, on the disk that they share."""
    root = rig.provider.home.slurm / "ftlaunch"
    for runs in (root / "runs", root / "nodes" / "1" / "runs"):
        yield from runs.glob("suite-*")


def two_steps(bench: Bench) -> Job:
    steps = (
        Step("first", bench.argv(FIRST, *FACTS)),
        Step("second", bench.argv(SECOND)),
    )
    return replace(
        bench.job(programs.HELLO, nodes=2),
        plan=Plan(steps=steps),
        inputs=(LocalTree((bench.file("data", b"the same"),)),),
        secrets=Secrets({"WORD": "not to be seen"}),
    )


def text(bench: Bench, lease: Lease, step: str) -> list[str]:
    """A step's log without numbers and times."""
    raw = bench.content(lease.files, rundir.log_segment(step, 1)).splitlines()
    return [line.text for line in map(rundir.parse_line, raw) if line is not None]


def test_both_nodes_run_each_step_and_tell_one_story(rig: OnSky, bench: Bench) -> None:
    job = two_steps(bench)
    lease = bench.launch(job)
    seen = bench.wait(lease)
    assert seen.phase is Phase.SUCCEEDED, (
        f"{seen}; {bench.content_if_there(lease.files, 'runner.err')!r}"
    )
    first, second = text(bench, lease, "first"), text(bench, lease, "second")
    for rank in ("0", "1"):
        (said,) = (line for line in first if line.startswith(f"[node{rank}] rank"))
        assert said.startswith(f"[node{rank}] rank {rank} at 127.0.0.1 ")
        assert said.endswith("of ['127.0.0.1', '127.0.0.1']"), said
        assert f"[node{rank}] bundle the same secret 14" in first
        assert f"[node{rank}] names []" in first
        assert f"[node{rank}] second sees the first of {rank}" in second
    assert seen.state is not None
    assert [(row["name"], row["phase"]) for row in seen.state["nodes"]] == [
        ("node0", "succeeded"),
        ("node1", "succeeded"),
    ]
    assert bench.content(lease.files, "output/first") == b"0", "results are the first one's"
    assert len(list(folders(rig))) == 2
    files = bench.backend.release(lease, keep=Keep.FILES)
    assert files is not None
    assert [path.parents[1].name for path in folders(rig)] == ["ftlaunch"], "one has it all"

    later = bench.launch(
        bench.job(
            "print(open('inputs/before/output/first').read() + '!')",
            nodes=2,
            inputs=(Attached(files, PurePosixPath("inputs/before")),),
        )
    )
    assert bench.wait(later).phase is Phase.SUCCEEDED, bench.logs(later)
    assert {"[node0] 0!", "[node1] 0!"} <= set(text(bench, later, "only"))
    bench.backend.discard(files)


def test_one_node_fails_and_the_run_ends_on_both(bench: Bench) -> None:
    lease = bench.launch(bench.job(NODE_1_FAILS, nodes=2))
    seen = bench.wait(lease)
    assert (seen.phase, seen.exit_code) == (Phase.FAILED, 7), seen
    assert seen.reason.startswith("node1 (")
    assert "step only exited with code 7" in seen.reason
    assert {"[node0] here", "[node1] here"} <= set(text(bench, lease, "only"))


@pytest.mark.parametrize("ends", ["stop", "kill"])
@pytest.mark.seldom
def test_a_stop_reaches_both_nodes_and_so_does_the_death_of_one(
    rig: OnSky, bench: Bench, ends: str
) -> None:
    stop = StopRecipe(interrupt=timedelta(seconds=20), steps=("only",))
    lease = bench.launch(bench.job(STAYS, nodes=2, plan={"stop": stop}))
    bench.wait_ready(lease)
    pids = bench.until("both to be ready", lambda: ready(rig, lease))
    if ends == "stop":
        bench.backend.signal(lease, Signal.STOP, grace=timedelta(seconds=30))
    else:
        (runner,) = runners(f"/nodes/1/runs/{lease.job}")
        os.kill(runner, signal.SIGKILL)
    seen = bench.wait(lease)
    if ends == "stop":
        assert seen.phase is Phase.STOPPED, seen
    else:
        assert seen.phase is Phase.FAILED, seen
        assert "node1 (" in seen.reason
        assert "is gone" in seen.reason
    bench.backend.release(lease, keep=Keep.NOTHING)
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def ready(rig: OnSky, lease: Lease) -> list[int] | None:
    """The programs' process ids on this machine, which all nodes are, once both are there."""
    found = [path for path in folders(rig) if (path / "output" / "ready").exists()]
    if len(found) < 2:
        return None
    marks = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            content = path.read_bytes()
            if b"FTLAUNCH_STEP=only" in content and lease.job.encode() in content:
                marks.append(int(path.parent.name))
    return marks or None


def runners(home: str) -> list[int]:
    """The runners of a run directory."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            said = path.read_text("utf-8", "replace")
            if "runner.py" in said and said.endswith(f"{home}\0"):
                found.append(int(path.parent.name))
    return found


@pytest.mark.seldom
def test_a_job_of_one_node_runs_on_the_first(bench: Bench) -> None:
    lease = bench.launch(bench.job("import os; print(os.environ.get('FTLAUNCH_NODE_RANK', '-'))"))
    assert bench.wait(lease).phase is Phase.SUCCEEDED, bench.logs(lease)
    assert text(bench, lease, "only") == ["0"]


@pytest.mark.seldom
def test_more_nodes_than_there_are(rig: OnSky, bench: Bench) -> None:
    with pytest.raises(Unsupported, match="has 2 nodes, and this job asks for 3"):
        bench.launch(bench.job(programs.HELLO, nodes=3))
    with pytest.raises(Unsupported, match="has 2 nodes, and this job asks for 3"):
        bench.backend.offers(Need(nodes=3), live=True)


@pytest.mark.seldom
def test_a_cluster_of_its_own_whose_nodes_share_no_disk(
    rig: OnSky, own: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a cloud: each node is reached by itself, and earlier files are brought over."""
    monkeypatch.setattr(Cluster, "shared", property(lambda self: False))
    (offer,) = own.backend.offers(SMALL, live=True)
    assert (offer.nodes, offer.count) == (2, 1)
    assert offer.price.amount == 5, "two nodes, $2.50 each"
    job = two_steps(own)
    lease = own.backend.launch(job, offer, on_lease=own.remember, progress=silent)
    (row,) = (c for c in own.backend._server.clusters(cluster_name(job.name)))  # type: ignore[attr-defined]
    assert (row.nodes, row.gpu, row.count) == (2, "H100", 1)
    seen = own.wait(lease)
    assert seen.phase is Phase.SUCCEEDED, seen
    assert "[node1] second sees the first of 1" in text(own, lease, "second")
    later = own.job(
        "print(open('inputs/before/output/first').read() + '!')",
        nodes=2,
        inputs=(Attached(lease.files, PurePosixPath("inputs/before")),),
    )
    again = own.backend.launch(later, offer, on_lease=own.remember, progress=silent)
    assert own.wait(again).phase is Phase.SUCCEEDED, own.logs(again)
    assert {"[node0] 0!", "[node1] 0!"} <= set(text(own, again, "only"))
    for one in (lease, again):
        own.backend.release(one, keep=Keep.NOTHING)
    assert not any(name.startswith("ftlaunch-") for name in rig.provider.allocations())
    for path in folders(rig):  # a cloud's disk would have gone with its cluster
        path.rename(path.with_name(f"gone-{path.name}"))
