"""`-b auto` over two providers without capacity: their real SDKs, loopback clouds, real ssh."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from auto_run import auto, no_software, programs, refusals, starts
from clouds.jarvis.catalogue import NOIDA
from clouds.jarvis.cloud import Cloud as JarvisCloud
from clouds.modal.cloud import Cloud as ModalCloud
from desks import FTLAUNCH
from jarvis_rig import OnJarvis, jarvis
from modal_rig import OnModal, modal
from toy_run import Toy

from backends.lease import Phase
from backends.offer import Money, Need, Offer
from backends.registry import load
from launcher.run import limits
from launcher.run.conductor import conduct
from launcher.run.desk import Desk
from launcher.run.loaded import Backends
from launcher.run.spec import offer_from_json, run_from_json
from launcher.store import open_store

pytestmark = pytest.mark.timeout(300)

L4 = Need(gpus=(("L4", 1),))


@dataclass(frozen=True)
class World:
    """Both providers, and an offer of each for the same GPU."""

    jarvis: JarvisCloud
    modal: ModalCloud
    at_jarvis: Offer
    at_modal: Offer
    before: int

    def made_at_jarvis(self) -> int:
        """Machines of this test."""
        return len(self.jarvis.machines) - self.before

    def machines(self) -> int:
        """How many machines of Jarvis Labs bill: more than a disk."""
        return sum(bill.kind != "disk" for bill in self.jarvis.meter.billing())

    def apps(self) -> list[str]:
        return [app["description"] for app in self.modal.state["apps"]]

    def assert_at_rest(self) -> None:
        end = time.monotonic() + 30
        while self.machines() or self.modal.billing():
            assert time.monotonic() < end, "something bills"
            time.sleep(0.1)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[OnJarvis, OnModal]]:
    folder = tmp_path_factory.mktemp("auto")
    path = programs(folder / "programs")
    with (
        jarvis(folder / "jarvis", folder / "unused j", programs=path) as first,
        modal(folder / "modal", folder / "unused m", programs=path) as second,
    ):
        yield first, second


@pytest.fixture
def world(both: tuple[OnJarvis, OnModal], monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    no_software(monkeypatch)
    first, second = both
    (at_jarvis,) = first.backend().offers(L4, live=True)
    (at_modal,) = second.backend().offers(L4, live=True)
    made = World(first.provider, second.provider, at_jarvis, at_modal, len(first.provider.machines))
    yield made
    first.provider.forgive()
    first.provider.capacity("L4", NOIDA, 8)
    first.provider.set_balance(Decimal(100))
    second.provider.set(full=[])
    made.assert_at_rest()


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("FTLAUNCH_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("HOME", str(tmp_path))
    yield tmp_path
    # Each test is a computer of its own, and the account takes ten keys.
    load("jarvis", state_dir=tmp_path / "state" / "backends").clean()


def conducted(made: Toy) -> None:
    conduct(made.run.id)
    assert all(job.closed_at for job in made.store.jobs(made.run.id))


def inspected(made: Toy) -> str:
    argv = [FTLAUNCH, "inspect", made.run.name]
    return subprocess.run(argv, env=made.environ, capture_output=True, text=True, check=True).stdout


KILLED = """
import os, signal, sys
import pytest
from auto_run import no_software
from backends.modal.backend import Modal
from launcher.run import conductor
from launcher.store.jobs import Jobs
from launcher.store.runs import Runs
no_software(pytest.MonkeyPatch())
rooms = {"Jobs": Jobs, "Modal": Modal, "Runs": Runs}
room, name, when = rooms[sys.argv[2]], sys.argv[3], sys.argv[4]
step, left = getattr(room, name), [int(sys.argv[5])]
def watched(self, *given, **more):
    left[0] -= 1
    if left[0] == 0 and when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    done = step(self, *given, **more)
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return done
setattr(room, name, watched)
conductor.conduct(sys.argv[1])
"""


def killed(made: Toy, at: tuple[str, str, str, int]) -> None:
    """Conduct it as far as this, and no further."""
    tests = Path(__file__).resolve().parents[1]
    path = os.pathsep.join([str(tests / "support"), str(tests), os.environ["PYTHONPATH"]])
    argv = [sys.executable, "-c", KILLED, made.run.id, *map(str, at)]
    done = subprocess.run(argv, env={**made.environ, "PYTHONPATH": path}, check=False)
    assert done.returncode == -9, [one.text for one in made.store.events(made.run.id)]


def test_what_one_provider_has_none_of_is_taken_at_the_other(world: World, mine: Path) -> None:
    world.jarvis.capacity("L4", NOIDA, 0)
    places = [("jarvis", world.at_jarvis), ("modal", world.at_modal)]
    with auto(mine, places, left_out=("skypilot: nobody answers",)) as made:
        conducted(made)
        assert made.store.run(made.run.id).phase is Phase.SUCCEEDED
        assert made.store.run(made.run.id).backend == "modal"
        assert starts(made) == 1
        ((refused, why),) = refusals(made)
        assert refused == "jarvis"
        assert "L4" in why
        told = inspected(made)
    assert "refused: jarvis, L4 x 1 in IN2: Jarvis Labs" in told
    assert "taken: modal, L4 x 1" in told
    assert "left out: skypilot: nobody answers" in told
    assert world.made_at_jarvis() == 0


def test_a_queue_that_does_not_move_is_left_for_the_other(world: World, mine: Path) -> None:
    world.modal.set(full=["L4"])
    places = [("modal", world.at_modal), ("jarvis", world.at_jarvis)]
    with auto(mine, places, max_wait=timedelta(seconds=1)) as made:
        conducted(made)
        assert made.store.run(made.run.id).phase is Phase.SUCCEEDED
        assert starts(made) == 1
        ((refused, why),) = refusals(made)
        assert (refused, why) == ("modal", "no L4 x 1 was free for it in 1 s")
        jobs = made.store.jobs(made.run.id)
        assert [(job.backend, job.phase) for job in jobs] == [
            ("modal", Phase.FAILED),
            ("jarvis", Phase.SUCCEEDED),
        ]
    # Its call is over at Modal: were there room again, nothing would start.
    world.modal.set(full=[])
    time.sleep(1)
    state = world.modal.state
    left = [app for app in state["apps"] if jobs[0].name in app["description"]]
    assert left
    assert all(app["over"] for app in left)
    assert not any(call["attempts"] for call in state["calls"] if call["app"] == left[0]["id"])


@pytest.mark.parametrize(
    "at",
    [
        ("Modal", "release", "before", 1),
        ("Modal", "release", "after", 1),
        ("Jobs", "mark_ended", "before", 1),
        ("Runs", "move_run", "after", 1),
    ],
)
def test_killed_while_it_leaves_a_queue_it_goes_on_to_the_other(
    world: World, mine: Path, at: tuple[str, str, str, int]
) -> None:
    world.modal.set(full=["L4"])
    places = [("modal", world.at_modal), ("jarvis", world.at_jarvis)]
    with auto(mine, places, max_wait=timedelta(seconds=1)) as made:
        killed(made, at)
        conducted(made)
        assert made.store.run(made.run.id).phase is Phase.SUCCEEDED
        assert starts(made) == 1
        assert refusals(made) == [("modal", "no L4 x 1 was free for it in 1 s")]
        phases = [(job.backend, job.phase) for job in made.store.jobs(made.run.id)]
        assert phases == [("modal", Phase.FAILED), ("jarvis", Phase.SUCCEEDED)]


def test_killed_while_it_leaves_a_queue_it_keeps_what_has_begun_there(
    world: World, mine: Path
) -> None:
    world.modal.set(full=["L4"])
    places = [("modal", world.at_modal), ("jarvis", world.at_jarvis)]
    with auto(mine, places, max_wait=timedelta(seconds=1)) as made:
        killed(made, ("Modal", "release", "before", 1))
        world.modal.set(full=[])
        (job,) = made.store.jobs(made.run.id)
        assert job.lease is not None
        modal = load("modal", state_dir=mine / "state" / "backends")
        end = time.monotonic() + 60
        while not modal.observe(job.lease).phase.ended:
            assert time.monotonic() < end
            time.sleep(0.2)
        conducted(made)
        assert made.store.run(made.run.id).phase is Phase.SUCCEEDED
        assert starts(made) == 1
        assert refusals(made) == []
    assert world.made_at_jarvis() == 0


def test_where_nothing_is_free_anywhere_all_of_it_is_told(world: World, mine: Path) -> None:
    world.jarvis.capacity("L4", NOIDA, 0)
    with auto(mine, [("jarvis", world.at_jarvis), ("jarvis", world.at_jarvis)]) as made:
        conduct(made.run.id)
        assert made.store.run(made.run.id).phase is Phase.FAILED
        argv = [FTLAUNCH, "wait", "auto"]
        waited = subprocess.run(argv, env=made.environ, capture_output=True, check=False)
        assert waited.returncode == 5, waited.stderr
        assert "No free L4" in made.store.jobs(made.run.id)[0].reason
        told = inspected(made)
    assert "left out: jarvis, L4 x 1: it is not offered any more" in told
    assert world.made_at_jarvis() == 0


def test_the_next_offer_is_asked_for_its_price_again(world: World, mine: Path) -> None:
    world.modal.set(full=["L4"])
    planned = replace(world.at_jarvis, price=Money(Decimal("0.10")))
    places = [("modal", world.at_modal), ("jarvis", planned)]
    with auto(mine, places, max_wait=timedelta(seconds=1), max_cost=Decimal(5)) as made:
        conducted(made)
        assert made.store.run(made.run.id).phase is Phase.SUCCEEDED
        job = made.store.jobs(made.run.id)[-1]
        assert offer_from_json(job.offer).price == world.at_jarvis.price
        told = inspected(made)
    price = world.at_jarvis.price
    assert f"taken: jarvis, L4 x 1 in IN2: {price} an hour now, $0.10 when it was planned" in told


@pytest.mark.parametrize("why", ["dearer", "gone"])
def test_a_queue_is_not_left_for_what_the_limits_forbid_or_is_gone(
    world: World, mine: Path, why: str
) -> None:
    """The live price is above the cap, which the plan's was not; or there is none there now."""
    world.modal.set(full=["L4"])
    planned = replace(world.at_jarvis, price=Money(Decimal("0.10")))
    if why == "gone":
        world.jarvis.capacity("L4", NOIDA, 0)
    places = [("modal", world.at_modal), ("jarvis", planned)]
    caps = {} if why == "gone" else {"max_price": Decimal("0.20")}
    with auto(mine, places, max_wait=timedelta(seconds=1), **caps) as made:
        room = threading.Thread(target=make_room, args=(world, made.state))
        room.start()
        conducted(made)
        room.join()
        assert made.store.run(made.run.id).phase is Phase.SUCCEEDED
        assert made.store.run(made.run.id).backend == "modal"
        assert starts(made) == 1
        stays = [one.text for one in made.store.events(made.run.id) if one.kind == "stays"]
    reason = {"dearer": "above the limit of $0.20 an hour", "gone": "it is not offered any more"}
    assert len(stays) == 1
    assert (
        f"train stays in its queue, the others are passed over: jarvis, L4 x 1: {reason[why]}"
        in (stays[0])
    )
    assert world.made_at_jarvis() == 0


def make_room(world: World, state: Path) -> None:
    """At Modal, once the run has said that it stays there."""
    with contextlib.closing(open_store(state)) as store:
        end = time.monotonic() + 120
        while not any(event.kind == "stays" for event in store.events("auto1")):
            assert time.monotonic() < end
            time.sleep(0.1)
    world.modal.set(full=[])


def test_what_was_rented_in_vain_counts_under_the_limits(world: World, mine: Path) -> None:
    world.jarvis.fate(taken=True)
    places = [("jarvis", world.at_jarvis), ("modal", world.at_modal)]
    with auto(mine, places, max_cost=Decimal(5)) as made:
        conducted(made)
        assert made.store.run(made.run.id).phase is Phase.SUCCEEDED
        assert refusals(made) == [("jarvis", "the machine was taken away while it started")]
        refused, taken = made.store.jobs(made.run.id)
        assert refused.cost is not None
        assert refused.cost.amount > 0
        settled = run_from_json(made.store.run_spec(made.run.id))
        desk = Desk(made.store, made.store.run(made.run.id), Backends(), settled)
        assert limits.left(desk, taken).cost == 5 - refused.cost.amount
        said = [one.text for one in made.store.events(made.run.id) if one.kind == "in vain"]
        assert said == [f"what was rented for train is let go of again; it has cost {refused.cost}"]
    assert world.made_at_jarvis() == 1


def test_any_other_error_is_the_end_and_nobody_else_is_asked(world: World, mine: Path) -> None:
    before = world.apps()
    world.jarvis.set_balance(Decimal(0))
    with auto(mine, [("jarvis", world.at_jarvis), ("modal", world.at_modal)]) as made:
        conduct(made.run.id)
        assert made.store.run(made.run.id).phase is Phase.FAILED
        assert refusals(made) == []
        assert "balance" in made.store.jobs(made.run.id)[0].reason
    assert world.apps() == before


@pytest.mark.parametrize("where", ["jarvis", "modal"])
def test_what_a_run_took_is_read_before_its_machine_is_let_go_of(
    world: World, mine: Path, where: str
) -> None:
    offer = world.at_jarvis if where == "jarvis" else world.at_modal
    with auto(mine, [(where, offer)], workload="what it was") as made:
        conducted(made)
        assert made.store.run(made.run.id).phase is Phase.SUCCEEDED
        (row,) = made.store.measurements()
    assert (row.backend, row.gpu, row.count, row.method) == (where, "L4", 1, "lora")
    assert row.peak_gib == 5.0
    assert row.step_s is not None
    assert row.step_s >= 0.1
    assert row.seconds["train"] >= 0.8
    assert row.seconds["load"] >= 0
    # A container's start is not paid for, and a queue is none of its time.
    assert ("start" in row.seconds) is (where == "jarvis")


@pytest.mark.parametrize(
    "at",
    [
        ("Jobs", "mark_intent", "after", 1),  # before the first provider is asked
        ("Jobs", "mark_ended", "before", 1),  # it has refused, and that is not yet written
        ("Runs", "move_run", "before", 1),
        ("Runs", "move_run", "after", 1),  # in the middle of what is written whole or not at all
        ("Jobs", "mark_intent", "after", 2),  # before the second is asked
        ("Jobs", "save_lease", "after", 1),  # it has the job, and that is all that is known
        ("Jobs", "mark_launched", "before", 1),
    ],
)
def test_killed_on_the_way_it_rents_once(
    world: World, mine: Path, at: tuple[str, str, str, int]
) -> None:
    world.jarvis.capacity("L4", NOIDA, 0)
    before = len(world.apps())
    with auto(mine, [("jarvis", world.at_jarvis), ("modal", world.at_modal)]) as made:
        killed(made, at)
        conducted(made)
        assert made.store.run(made.run.id).phase is Phase.SUCCEEDED
        assert starts(made) == 1
        assert len(refusals(made)) == 1
        trained = [job for job in made.store.jobs(made.run.id) if job.backend == "modal"]
        assert len(trained) == 1, "there are two trainings"
    assert len(world.apps()) == before + 1
    assert world.made_at_jarvis() == 0


def test_the_plan_shows_the_order_before_anything_is_spent(world: World, mine: Path) -> None:
    argv = [FTLAUNCH, "train", "quickstart", "-b", "auto", "-g", "L4", "--dry-run", "--json"]
    environ = {**os.environ, "FTLAUNCH_STATE_DIR": str(mine / "state")}
    asked = subprocess.run(argv, env=environ, cwd=mine, capture_output=True, text=True, check=True)
    told = json.loads(asked.stdout)
    assert {row["backend"] for row in told["order"]} >= {"jarvis", "modal"}
    assert all(row["doubt"] == "" for row in told["order"] if row["backend"] != "skypilot")
    costs = [Decimal(row["cost"][1]) for row in told["order"]]
    assert costs == sorted(costs)
    assert (told["backend"], told["offer"]["gpu"]) == (told["order"][0]["backend"], "L4")


def asked(mine: Path, *words: str, **environ: str) -> str:
    told = {**os.environ, "FTLAUNCH_STATE_DIR": str(mine / "state"), **environ}
    argv = [FTLAUNCH, *words]
    return subprocess.run(
        argv, env=told, cwd=mine, capture_output=True, text=True, check=True
    ).stdout


def lists(mine: Path, **environ: str) -> dict[str, dict[str, Any]]:
    found = json.loads(asked(mine, "prices", "--json", **environ))["lists"]
    return {one["backend"]: one for one in found}


NOBODY = {"JL_API_KEY": "", "MODAL_TOKEN_ID": "", "MODAL_TOKEN_SECRET": ""}


def test_prices_that_were_asked_for_stand_in_when_nobody_can_be(world: World, mine: Path) -> None:
    assert {lists(mine)[name]["stale"] for name in ("jarvis", "modal")} == {True}
    told = asked(mine, "prices", "update")
    assert "jarvis: asked now" in told
    assert "modal: asked now" in told
    found = lists(mine, **NOBODY)
    assert found["jarvis"]["source"] == "Jarvis Labs, as last asked from here"
    assert found["modal"]["source"] == "Modal, as last asked from here"
    for one in (found["jarvis"], found["modal"]):
        assert not one["stale"]
        assert one["rows"]
        assert all(row["source"] and row["read_at"] for row in one["rows"])
    assert any(row["spot"] for row in found["jarvis"]["rows"])
    plan = asked(mine, "train", "quickstart", "-b", "jarvis", "-g", "L4", "--dry-run", **NOBODY)
    assert "as last asked from here" in plan


def test_an_account_in_rupees_is_shown_both(world: World, mine: Path) -> None:
    world.jarvis.currency("INR")
    try:
        plan = asked(mine, "train", "quickstart", "-b", "jarvis", "-g", "L4", "--dry-run")
        assert re.search(r"INR [0-9.]+ \(\$0\.45\) an hour", plan), plan
        told = asked(mine, "train", "quickstart", "-b", "auto", "-g", "L4", "--dry-run", "--json")
    finally:
        world.jarvis.currency("USD")
    order = [row["backend"] for row in json.loads(told)["order"]]
    assert {"jarvis", "modal"} <= set(order), "what is paid in rupees has no place in the order"
