"""A run that one computer began at Modal is finished by another, which has only the token."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from clouds.modal.cloud import Cloud
from desks import Desk
from modal_rig import OnModal, modal
from toy_run import Toy, toy

from backends.lease import Phase

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[OnModal]:
    with modal(tmp_path / "cloud", tmp_path / "unused") as made:
        yield made


@pytest.fixture
def second(tmp_path: Path) -> Desk:
    """The other computer."""
    folder = tmp_path / "second"
    (folder / "here").mkdir(parents=True)
    return Desk(folder / "here", folder / "state", {})


def until(what: str, look: Callable[[], object], patience_s: float = 90) -> None:
    end = time.monotonic() + patience_s
    while not look():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.1)


def dies_after(made: Toy, moment: Callable[[], object]) -> None:
    """Conduct the run, and be killed at that moment for good."""
    argv = [sys.executable, "-m", "launcher.run.conductor", made.run.id]
    conductor = subprocess.Popen(argv, env={**os.environ, **made.environ}, start_new_session=True)
    try:
        until("the moment", moment)
    finally:
        conductor.send_signal(signal.SIGKILL)
        conductor.wait()


def at_rest(cloud: Cloud) -> bool:
    until("the end of all bills", lambda: not cloud.billing(), 20)
    return not list(cloud.volume("ftlaunch-runs").glob("ftl-*"))


@pytest.mark.parametrize("ended", [False, True], ids=["runs", "over"])
def test_the_run_of_a_lost_laptop_is_finished(
    rig: OnModal, second: Desk, tmp_path: Path, ended: bool
) -> None:
    with toy(tmp_path / "first", seconds=4, backend="modal", offer=rig.offer()) as made:

        def launched() -> bool:
            return made.store.jobs(made.run.id)[0].launched_at is not None

        dies_after(made, launched)
        top = rig.provider.volume("ftlaunch-runs")
        until("a state", lambda: list(top.glob("*-train-*/state.json")))
        if ended:
            until("its end", lambda: not rig.provider.billing())
        adopted = second.run("ps", "--adopt", "--json")
        assert adopted.code == 0, adopted.said
        assert [row["name"] for row in json.loads(adopted.out)["adopted"]] == ["toy"]
        waited = second.run("wait", "toy")
        assert waited.code == 0, waited.said
        home = second.here / "runs" / "toy" / "output"
        for kind in ("train", "merge"):
            assert (home / kind).read_text() == f"made by {kind}"
            assert (home / f"starts-{kind}").read_text() == "started\n"
        phases = [job.phase for job in second.store().jobs(made.run.id)]
        assert phases == [Phase.SUCCEEDED, Phase.SUCCEEDED]
        assert at_rest(rig.provider)
        # A bill comes late: everything is closed and gone by then.
        rig.provider.set(has_reports=True, hour_s=1.0)
        bills = [
            row["bill"] for row in second.run("inspect", "toy", "--bill", "--json").json()["jobs"]
        ]
        assert all(bills), bills


def test_what_got_the_training_ready_is_let_go_of_with_it(
    rig: OnModal, second: Desk, tmp_path: Path
) -> None:
    where = {"backend": "modal", "offer": rig.offer()}
    with toy(tmp_path / "first", seconds=2, prepared=True, **where) as made:  # type: ignore[arg-type]

        def trains() -> bool:
            return made.store.jobs(made.run.id)[1].launched_at is not None

        dies_after(made, trains)
        top = rig.provider.volume("ftlaunch-runs")
        until("a state", lambda: list(top.glob("*-train-*/state.json")))
        assert list(top.glob("*-preprocess-*"))
        assert second.run("ps", "--adopt").code == 0
        waited = second.run("wait", "toy")
        assert waited.code == 0, waited.said
        kinds = [(job.kind, job.phase) for job in second.store().jobs(made.run.id)]
        assert kinds == [(k, Phase.SUCCEEDED) for k in ("preprocess", "train", "merge")]
        assert not (second.here / "runs" / "toy" / "output" / "preprocess").exists()
        assert (second.here / "runs" / "toy" / "output" / "merge").is_file()
        assert at_rest(rig.provider)
