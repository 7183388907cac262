"""`ftlaunch check --clean` at a provider that bills."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from laptops import Laptop, Office, office, until
from toy_run import toy

from launcher.on_finish import OnFinish

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def account(tmp_path: Path) -> Iterator[Office]:
    with office(tmp_path) as made:
        yield made


@pytest.fixture
def mine(account: Office) -> Iterator[Laptop]:
    laptop = account.laptop("mine", key=False)
    yield laptop
    laptop.dies()


def keys(account: Office) -> int:
    return len(account.rig.provider.account["keys"])


def test_nothing_that_is_needed_is_touched(account: Office, mine: Laptop) -> None:
    other = account.laptop("other")
    with toy(mine.folder, seconds=8, backend="jarvis", offer=account.rig.offer()) as made:
        mine.conduct(made.run)
        until("the training", lambda: made.store.jobs(made.run.id)[0].launched_at)
        assert keys(account) == 2, "this computer has made a key"
        here = mine.ask("check", "--clean", "-b", "jarvis")
        assert here.returncode == 0, here.stdout
        assert "nothing was left to clean up" in here.stdout
        there = other.ask("check", "--clean")
        assert there.returncode == 8, there.stdout
        assert "ftlaunch ps --adopt" in there.stdout
        assert keys(account) == 2
        assert mine.ask("wait", "toy").returncode == 0
        assert account.at_rest()
        after = mine.ask("check", "--clean", "--json")
        assert after.returncode == 0, after.stdout
        done = json.loads(after.stdout)["clean"]
        assert [row["subject"] for row in done["jarvis"]] == ["SSH key"]
        assert keys(account) == 1, "the user's own stays"
        assert other.ask("check", "--clean", "-b", "jarvis").returncode == 0


def test_what_an_earlier_command_could_not_let_go_of(account: Office, mine: Laptop) -> None:
    provider = account.rig.provider
    offer = account.rig.offer()
    with toy(
        mine.folder, seconds=0.2, backend="jarvis", offer=offer, on_finish=OnFinish.PAUSE
    ) as made:
        assert mine.conduct(made.run).wait(180) == 0
        assert provider.meter.billing("gpu") == []
        provider.fail("POST", "misc/pause.*", 500, times=None)
        shutil.rmtree(made.out / "output")
        assert mine.ask("pull", "toy").returncode == 8
        assert provider.meter.billing("gpu")
        stuck = mine.ask("check", "--clean", "-b", "jarvis")
        assert stuck.returncode == 8, stuck.stdout
        provider.forgive()
        cleaned = mine.ask("check", "--clean", "-b", "jarvis")
        assert cleaned.returncode == 0, cleaned.stdout
        assert "is paused: nobody needs it awake" in cleaned.stdout
        until("the pause", lambda: not provider.meter.billing("gpu"), 20)
        assert mine.ask("pull", "toy").returncode == 0, "its files are kept"


def test_a_provider_that_does_not_answer_may_bill(account: Office, mine: Laptop) -> None:
    with account.rig.provider.silence():
        silent = mine.ask("check", "--clean", "-b", "jarvis")
    assert silent.returncode == 8, silent.stdout
