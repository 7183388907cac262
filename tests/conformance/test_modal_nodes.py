"""Jobs of several nodes at Modal: clusters of containers, with Modal's own entrypoint in each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from modal_rig import OnModal, modal
from step_trainer import trainer

from backends import rundir
from backends.errors import Unsupported
from backends.job import Job, LocalTree, Secrets
from backends.lease import Keep, Lease, Phase, Signal
from backends.modal import launching
from backends.offer import Need
from backends.plan import NodeFact, Plan, Step, StopRecipe
from backends.protocol import silent
from backends.testing import programs
from backends.testing.bench import Bench

TWO = Need(gpus=(("H100", 8),), nodes=2)
FIRST = """
import os, pathlib, sys
rank, address, port = sys.argv[1:]
print("rank", rank, "at", address, "of", os.environ["FTLAUNCH_NODE_ADDRESSES"].split())
print("bundle", open("bundle/data").read(), "secret", len(os.environ["WORD"]))
print("names", [name for name in os.environ if "TOKEN" in name or name.startswith("MODAL")])
pathlib.Path("output").mkdir(exist_ok=True)
pathlib.Path("output/first").write_text(rank)
"""
SECOND = 'print("second sees the first of", open("output/first").read())'
STAYS = """
import os, time
os.makedirs("output", exist_ok=True)
print("stays", flush=True)
time.sleep(600)
"""
NODE_1_FAILS = """
import os, sys, time
if os.environ["FTLAUNCH_NODE_RANK"] == "1":
    sys.exit(7)
time.sleep(600)
"""
STAYS_AT_12 = """
import os, sys, time
os.makedirs("output", exist_ok=True)
if len(sys.argv) > 1:
    print("begun at", sys.argv[1].rpartition("-")[2], flush=True)
    open("output/model", "w").write("trained")
    sys.exit(0)
def save(step):
    os.makedirs("output/checkpoint-%d" % step)
    for name in ("weights", "last"):
        open("output/checkpoint-%d/%s" % (step, name), "w").write("x")
save(10)
print("step 12", flush=True)
while True:
    time.sleep(0.05)
    if os.path.exists("output/save-now") and not os.path.exists("output/checkpoint-12"):
        save(12)
"""
FACTS = (NodeFact("rank"), NodeFact("address"), NodeFact("port"))


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnModal]:
    folder, state = tmp_path_factory.mktemp("cloud"), tmp_path_factory.mktemp("state")
    with modal(folder, state) as made:
        made.patience = timedelta(minutes=4)
        yield made


@pytest.fixture
def bench(rig: OnModal, tmp_path: Path) -> Iterator[Bench]:
    made = Bench(rig, tmp_path / "here")
    yield made
    made.clean()
    rig.provider.set(late={})
    assert rig.provider.billing() == []


def launched(bench: Bench, job: Job) -> Lease:
    (offer,) = bench.backend.offers(TWO, live=True)
    return bench.backend.launch(job, offer, on_lease=bench.remember, progress=silent)


def call(rig: OnModal, lease: Lease) -> dict[str, Any]:
    """The call of a job, as the provider sees it."""
    state = rig.provider.state
    (app,) = [one["id"] for one in state["apps"] if one["description"].endswith(lease.job)]
    return rig.provider.call_of(app)


def text(bench: Bench, lease: Lease, step: str = "only") -> list[str]:
    """A step's log without numbers and times, as far as it is there."""
    segments = [rundir.log_segment(step, number) for number in (1, 2, 3)]  # one an attempt
    raw = b"".join(bench.content_if_there(lease.files, path) or b"" for path in segments)
    found = map(rundir.parse_line, raw.splitlines())
    return [line.text for line in found if line is not None]


def says(bench: Bench, lease: Lease, *wanted: str, times: int = 1) -> None:
    """Until each of these lines was said so often, over all attempts."""

    def look() -> bool | None:
        found = text(bench, lease)
        return all(found.count(line) >= times for line in wanted) or None

    bench.until(f"{wanted}", look)


def test_both_containers_run_each_step_and_tell_one_story(rig: OnModal, bench: Bench) -> None:
    """One of them begins late, and is waited for."""
    rig.provider.set(late={"1": 2.0})
    steps = (Step("first", bench.argv(FIRST, *FACTS)), Step("second", bench.argv(SECOND)))
    job = replace(
        bench.job(programs.HELLO, nodes=2),
        plan=Plan(steps=steps),
        inputs=(LocalTree((bench.file("data", b"the same"),)),),
        secrets=Secrets({"WORD": "not to be seen"}),
    )
    lease = launched(bench, job)
    seen = bench.wait(lease)
    assert seen.phase is Phase.SUCCEEDED, seen
    first, second = text(bench, lease, "first"), text(bench, lease, "second")
    addresses = set()
    for rank in ("0", "1"):
        (said,) = (line for line in first if line.startswith(f"[node{rank}] rank"))
        found = re.fullmatch(rf"\[node{rank}\] rank {rank} at (\S+) of \['(\S+)', '(\S+)'\]", said)
        assert found, said
        assert found[1] == found[2], "the first one's address"
        addresses |= {found[2], found[3]}
        assert f"[node{rank}] bundle the same secret 14" in first
        assert f"[node{rank}] names []" in first
        assert f"[node{rank}] second sees the first of {rank}" in second
    assert len(addresses) == 2
    assert seen.state is not None
    assert [row["phase"] for row in seen.state["nodes"]] == ["succeeded", "succeeded"]
    assert bench.content(lease.files, "output/first") == b"0", "results are the first one's"
    assert "team.py" not in {str(path) for path in bench.backend.listing(lease.files)}
    bench.until("the other's end", lambda: not rig.provider.billing() or None)
    (function,) = (one for one in rig.provider.state["functions"] if one["size"])
    assert (function["size"], function["gpu"]) == (2, [["H100", 8]])
    (offer,) = bench.backend.offers(TWO, live=True)
    # $3.95 x 8 + 8 x $0.0473 + 64 x $0.008 for each of the two
    assert (offer.nodes, offer.price.amount) == (2, Decimal("64.9808"))
    assert seen.cost is not None
    hours = Decimal(str(seen.state["elapsed_s"])) / 3600
    assert seen.cost.amount == offer.price.amount * hours
    assert bench.backend.release(lease, keep=Keep.NOTHING) is None


def test_one_node_fails_and_the_run_ends_on_both(rig: OnModal, bench: Bench) -> None:
    lease = launched(bench, bench.job(NODE_1_FAILS, nodes=2))
    seen = bench.wait(lease)
    assert (seen.phase, seen.exit_code) == (Phase.FAILED, 7), seen
    assert seen.reason.startswith("node1 (")
    assert call(rig, lease)["attempts"] == 1, "a failure is nothing that a retry mends"


@pytest.mark.seldom
def test_a_stop_reaches_both(bench: Bench) -> None:
    stop = StopRecipe(interrupt=timedelta(seconds=20), steps=("only",))
    lease = launched(bench, bench.job(STAYS, nodes=2, plan={"stop": stop}))
    says(bench, lease, "[node0] stays", "[node1] stays")
    bench.backend.signal(lease, Signal.STOP, grace=timedelta(seconds=30))
    seen = bench.wait(lease)
    assert seen.phase is Phase.STOPPED, seen
    assert seen.state is not None
    assert [row["phase"] for row in seen.state["nodes"]] == ["stopped", "stopped"]


@pytest.mark.parametrize(("how", "since"), [("preempted", 12), ("lost", 10)])
def test_what_takes_one_takes_both_and_both_go_on_from_one_checkpoint(
    rig: OnModal, bench: Bench, monkeypatch: pytest.MonkeyPatch, how: str, since: int
) -> None:
    """Preempted: with a notice to that one only. Lost: nobody is told, and our own runners see."""
    monkeypatch.setattr(launching, "NOTICE_S", 80.0)  # however slow this machine is
    plan = trainer(bench, 0).plan
    stop = replace(plan.stop, wait=timedelta(seconds=60))
    step = replace(plan.steps[0], argv=bench.argv(STAYS_AT_12))
    job = bench.job(STAYS, nodes=2)
    lease = launched(bench, replace(job, plan=replace(plan, steps=(step,), stop=stop)))
    says(bench, lease, "[node0] step 12", "[node1] step 12")
    saved = "output/checkpoint-10/last"
    bench.until("a checkpoint", lambda: bench.content_if_there(lease.files, saved))
    number = str(call(rig, lease)["id"])
    if how == "lost":
        rig.provider.lose(number, rank=1)
    else:
        rig.provider.preempt(number, grace=80, rank=1)
    seen = bench.wait(lease)
    assert seen.phase is Phase.SUCCEEDED, seen
    found = call(rig, lease)
    assert (found["attempts"], found["retries"]) == (2, int(how == "lost"))
    log = text(bench, lease)
    for node in ("node0", "node1"):
        assert f"[{node}] [runner] goes on from output/checkpoint-{since}" in log
        assert f"[{node}] begun at {since}" in log
    assert bench.content(lease.files, "output/model") == b"trained"


@pytest.mark.seldom
def test_a_node_that_is_lost_each_time_is_given_up(rig: OnModal, bench: Bench) -> None:
    lease = launched(bench, bench.job(STAYS, nodes=2))
    for attempt in range(1, 4):
        says(bench, lease, "[node1] stays", times=attempt)
        rig.provider.lose(str(call(rig, lease)["id"]), rank=1)
    seen = bench.wait(lease)
    assert seen.phase is Phase.FAILED, seen
    assert "is gone" in seen.reason
    assert call(rig, lease)["attempts"] == 3


def test_what_is_no_cluster_of_modal_s_is_refused(bench: Bench) -> None:
    (offer,) = bench.backend.offers(Need(gpus=(("L4", 1),)), live=False)
    job = bench.job(programs.HELLO, nodes=2)
    with pytest.raises(Unsupported, match="whole machines, with 8 GPUs each") as caught:
        bench.backend.launch(job, offer.of(2), on_lease=bench.remember, progress=silent)
    assert "H100:8" in caught.value.hint
