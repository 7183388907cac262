"""A run that one computer began is finished by another, which has nothing but the account."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from laptops import Laptop, Office, office, until
from toy_run import Toy, toy

from backends.lease import Phase
from backends.offer import Offer
from launcher.on_finish import OnFinish
from launcher.run.papers import AT

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def account(tmp_path: Path) -> Iterator[Office]:
    with office(tmp_path) as made:
        yield made


@pytest.fixture
def first(account: Office) -> Iterator[Laptop]:
    laptop = account.laptop("first")
    yield laptop
    laptop.dies()


@pytest.fixture
def second(account: Office) -> Laptop:
    return account.laptop("second")


def the_offer(account: Office) -> Offer:
    return account.rig.offer()


def begun(account: Office, first: Laptop, made: Toy, *, kind: str = "train") -> Path:
    """The job runs; its state is on the machine. Returns its run directory there."""
    first.conduct(made.run)

    def look() -> Path | None:
        jobs = {job.kind: job for job in made.store.jobs(made.run.id)}
        if jobs[kind].launched_at is None:
            return None
        return next(account.rig.provider.folder.rglob(f"*-{kind}-*/state.json"), None)

    return until("the job to run", look).parent  # type: ignore[no-any-return]


def verified(folder: Path) -> None:
    """What both jobs made, whole, with what vouches for it."""
    for kind in ("train", "merge"):
        assert (folder / "output" / kind).read_text() == f"made by {kind}"
        assert (folder / "output" / f"starts-{kind}").read_text() == "started\n"
        manifest = next((folder / "manifests").glob(f"{kind}-*.json"))
        assert not json.loads(manifest.read_text()).get("made_here")
        assert next((folder / "logs").glob(f"{kind}-*.log")).stat().st_size


def test_the_run_of_a_dead_laptop_is_finished(
    account: Office, first: Laptop, second: Laptop
) -> None:
    with toy(first.folder, seconds=12, backend="jarvis", offer=the_offer(account)) as made:
        begun(account, first, made)
        first.dies()
        adopted = second.ask("ps", "--adopt", "--json")
        assert adopted.returncode == 0, adopted.stdout + adopted.stderr
        said = json.loads(adopted.stdout)
        assert [row["name"] for row in said["adopted"]] == ["toy"]
        assert said["left"] == []
        assert [(row["name"], row["backend"]) for row in said["runs"]] == [("toy", "jarvis")]
        again = second.ask("ps", "--adopt")
        assert "nothing to adopt" in again.stdout
        assert "toy" in again.stdout
        waited = second.ask("wait", "toy")
        assert waited.returncode == 0, waited.stdout + waited.stderr
        verified(second.folder / "here" / "runs" / "toy")
        jobs = second.store.jobs(made.run.id)
        names = [job.name for job in made.store.jobs(made.run.id)]
        assert [job.name for job in jobs] == names
        assert [job.phase for job in jobs] == [Phase.SUCCEEDED, Phase.SUCCEEDED]
        assert all(job.pulled_at and job.closed_at for job in jobs)
        assert account.at_rest()
        # The first one comes back: nothing runs twice, and nothing is said to be lost that is not.
        first.conduct(made.run).wait(120)
        reasons = [job.reason for job in made.store.jobs(made.run.id)]
        assert "finished from another computer" in reasons[0]
        assert account.at_rest()


def test_a_merge_whose_training_only_the_first_one_has(
    account: Office, first: Laptop, second: Laptop
) -> None:
    with toy(first.folder, seconds=6, backend="jarvis", offer=the_offer(account)) as made:
        begun(account, first, made, kind="merge")
        first.dies()
        assert second.ask("ps", "--adopt").returncode == 0
        waited = second.ask("wait", "toy")
        assert waited.returncode == 0, waited.stdout + waited.stderr
        folder = second.folder / "here" / "runs" / "toy"
        assert (folder / "output" / "merge").read_text() == "made by merge"
        assert (made.out / "output" / "train").read_text() == "made by train"
        train, merge = second.store.jobs(made.run.id)
        assert (train.phase, merge.phase) == (Phase.SUCCEEDED, Phase.SUCCEEDED)
        assert "on the computer that began the run" in train.reason
        # The training's files may be on that machine only: it sleeps until somebody says otherwise.
        living = [m.status for m in account.rig.provider.machines if m.gone is None]
        assert living == ["Paused"]
        assert second.ask("rm", "toy", "-y").returncode == 0
        assert account.at_rest()


def test_by_name_but_without_papers(account: Office, first: Laptop, second: Laptop) -> None:
    with toy(first.folder, seconds=6, backend="jarvis", offer=the_offer(account)) as made:
        at = begun(account, first, made)
        (at / AT).unlink()
        first.dies()
        adopted = second.ask("ps", "--adopt", "-b", "jarvis")
        assert adopted.returncode == 0, adopted.stderr
        assert second.ask("wait").returncode == 0
        folder = second.folder / "here" / "runs" / "toy"
        assert (folder / "output" / "train").read_text() == "made by train"
        assert account.at_rest()


def test_a_name_that_is_taken_here(account: Office, first: Laptop, second: Laptop) -> None:
    with (
        toy(first.folder, seconds=4, backend="jarvis", offer=the_offer(account)) as made,
        toy(second.folder, seconds=0.1, run_id="other") as mine,
    ):
        assert mine.run.name == made.run.name
        begun(account, first, made)
        first.dies()
        adopted = second.ask("ps", "--adopt")
        assert "toy-2: its train was found at jarvis" in adopted.stdout, adopted.stderr
        assert second.ask("wait", "toy-2").returncode == 0
        verified(second.folder / "here" / "runs" / "toy-2")
        assert account.at_rest()


def test_a_machine_that_accepts_no_key_of_this_computer(account: Office, first: Laptop) -> None:
    stranger = account.laptop("stranger", key=False)
    with toy(first.folder, seconds=8, backend="jarvis", offer=the_offer(account)) as made:
        begun(account, first, made)
        left = stranger.ask("ps", "--adopt")
        assert left.returncode == 8
        assert "accepts no SSH key of this computer" in left.stderr
        assert len(left.stderr.splitlines()) == 2, left.stderr
        assert stranger.store.runs() == []
        assert first.ask("wait", "toy").returncode == 0
        assert account.at_rest()


def test_what_is_being_set_up_is_left_alone(account: Office, first: Laptop, second: Laptop) -> None:
    account.rig.provider.fate(boot=120)
    with toy(first.folder, seconds=0.2, backend="jarvis", offer=the_offer(account)) as made:
        process = first.conduct(made.run)
        until("a machine", lambda: account.rig.provider.machines)
        left = second.ask("ps", "--adopt")
        assert left.returncode == 8
        assert "does not run yet" in left.stderr
        assert second.store.runs() == []
        assert process.wait(180) == 0
        verified(made.out)
        assert account.at_rest()


def test_two_at_one_run_do_no_harm(account: Office, first: Laptop, second: Laptop) -> None:
    with toy(first.folder, seconds=8, backend="jarvis", offer=the_offer(account)) as made:
        begun(account, first, made)
        assert second.ask("ps", "--adopt").returncode == 0
        first.conductors[0].wait(180)
        second.ask("wait", "toy")
        folders = [made.out, second.folder / "here" / "runs" / "toy"]
        for kind in ("train", "merge"):
            found = [f / "output" / kind for f in folders if (f / "output" / kind).is_file()]
            assert found, f"what {kind} made is nowhere"
            assert {path.read_text() for path in found} == {f"made by {kind}"}
        starts = [f / "output" / "starts-merge" for f in folders]
        assert {path.read_text() for path in starts if path.is_file()} == {"started\n"}
        assert account.at_rest()


def test_one_that_sleeps_is_woken_and_sleeps_again(
    account: Office, first: Laptop, second: Laptop
) -> None:
    offer = the_offer(account)
    with toy(
        first.folder, seconds=6, backend="jarvis", offer=offer, on_finish=OnFinish.PAUSE
    ) as made:
        begun(account, first, made)
        first.dies()
        job = made.store.jobs(made.run.id)[0].name
        machine = account.rig.provider.machine(job)
        account.rig.provider.dashboard_pause(machine.id)
        until("the pause", lambda: account.rig.provider.machine(job).status == "Paused")
        adopted = second.ask("ps", "--adopt")
        assert adopted.returncode == 0, adopted.stderr
        waited = second.ask("wait", "toy")
        assert waited.returncode == 6, "it was cut off in the middle: " + waited.stdout
        assert account.rig.provider.meter.billing("gpu") == []


def test_where_adopt_looks_needs_adopt(second: Laptop) -> None:
    refused = second.ask("ps", "-b", "jarvis")
    assert refused.returncode == 2
    assert "--adopt" in refused.stderr


def test_the_papers_name_no_path_of_the_first_laptop(account: Office, first: Laptop) -> None:
    with toy(first.folder, seconds=3, backend="jarvis", offer=the_offer(account)) as made:
        at = begun(account, first, made)
        text = (at / AT).read_text()
        assert str(first.folder) not in text
        assert [job["spec"]["kind"] for job in json.loads(text)["jobs"]] == ["train", "merge"]
        first.conductors[0].wait(180)
        assert account.at_rest()
