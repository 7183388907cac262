"""A run that one computer began behind SkyPilot is finished by another one, of the same server."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from clouds.skypilot.rig import Sky
from laptops import Laptop, until
from skypilot_faults.journey import WAYS
from toy_run import Toy, toy

from backends.lease import Phase

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def sky(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sky]:
    with Sky(tmp_path_factory.mktemp("sky")) as made:
        yield made


def laptop(sky: Sky, folder: Path, *, slurm: bool = True) -> Laptop:
    """One with a home of its own, that asks this server; `slurm`: it can log in to the cluster."""
    (folder / "home").mkdir(parents=True)
    if slurm:
        shutil.copytree(sky.home.sky / ".slurm", folder / "home" / ".slurm")
    return Laptop(folder, {k: v for k, v in sky.environ.items() if k != "HOME"})


@pytest.fixture
def first(sky: Sky, tmp_path: Path) -> Iterator[Laptop]:
    made = laptop(sky, tmp_path / "first")
    yield made
    made.dies()


@pytest.fixture
def second(sky: Sky, tmp_path: Path) -> Laptop:
    return laptop(sky, tmp_path / "second")


def dies_when_launched(first: Laptop, made: Toy) -> None:
    """Its job runs, and nobody there will ever look after it again."""
    first.conduct(made.run)
    until("the launch", lambda: made.store.jobs(made.run.id)[0].launched_at, 600)
    first.dies()


def ended(sky: Sky) -> object:
    """Whether the job on the cluster is over."""
    return list((sky.home.slurm / "ftlaunch" / "runs").glob("*-train-*/manifest.json"))


@pytest.mark.parametrize(
    "over",
    [
        pytest.param(False, id="runs", marks=pytest.mark.seldom),
        pytest.param(True, id="over", marks=pytest.mark.seldom),
    ],
)
def test_the_run_of_a_lost_laptop_is_finished(
    sky: Sky, first: Laptop, second: Laptop, over: bool
) -> None:
    backend, offer = WAYS["made"]
    seconds = 2 if over else 20
    with toy(first.folder, seconds=seconds, backend=backend, offer=offer) as made:
        dies_when_launched(first, made)
        if over:
            until("its end", lambda: ended(sky), 300)
        adopted = second.ask("ps", "--adopt", "-b", "skypilot", "--json")
        assert adopted.returncode == 0, adopted.stdout + adopted.stderr
        assert [row["name"] for row in json.loads(adopted.stdout)["adopted"]] == ["toy"]
        waited = second.ask("wait", "toy")
        assert waited.returncode == 0, waited.stdout + waited.stderr
        folder = second.folder / "here" / "runs" / "toy"
        for kind in ("train", "merge"):
            assert (folder / "output" / kind).read_text() == f"made by {kind}"
            assert (folder / "output" / f"starts-{kind}").read_text() == "started\n"
        jobs = second.store.jobs(made.run.id)
        assert [job.name for job in jobs] == [job.name for job in made.store.jobs(made.run.id)]
        assert [job.phase for job in jobs] == [Phase.SUCCEEDED, Phase.SUCCEEDED]
        # Its price was the first one's to know, and SkyPilot lists none.
        assert jobs[0].cost is None
        assert until("the end of its cluster", lambda: not sky.allocations(), 300)
        assert sky.cluster_names() == []
        # The first one comes back: nothing runs twice, and nothing is said to be lost that is not.
        first.conduct(made.run).wait(600)
        assert "finished from another computer" in made.store.jobs(made.run.id)[0].reason
        assert sky.still_held() == []
