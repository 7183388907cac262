"""What can go wrong with an account and with a machine: one sentence, a way out, nothing billed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from asked import RECIPE, TOKEN
from clouds.hub import Hub
from clouds.jarvis.catalogue import NOIDA
from clouds.jarvis.cloud import Cloud
from clouds.jarvis.guest import Guest
from desks import Desk, Ended
from jarvis_rig import OnJarvis, jarvis
from laptops import until
from toy_run import Toy, toy

pytestmark = pytest.mark.timeout(300)

FAILED, USAGE, REFUSED, CREDENTIALS, CAPACITY, LOST, CAPPED = 1, 2, 3, 4, 5, 6, 7
TINY = ("train", "tiny", "-b", "jarvis", "-y", "-n", "one")


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnJarvis]:
    folder = tmp_path_factory.mktemp("jarvis")
    with jarvis(folder / "cloud", folder / "unused") as made:
        yield made


@pytest.fixture
def cloud(rig: OnJarvis) -> Iterator[Cloud]:
    yield rig.provider
    rig.provider.forgive()


@pytest.fixture
def user(desk: Desk, tmp_path: Path, cloud: Cloud) -> Desk:
    """Somebody with a home of their own; the account's variables are set by the rig."""
    (tmp_path / "home").mkdir()
    return Desk(desk.here, desk.state, {"HOME": str(tmp_path / "home")})


def assert_said(ended: Ended, code: int, *words: str) -> None:
    assert ended.code == code, ended.said
    assert "Traceback" not in ended.said
    for word in words:
        assert word in ended.said, ended.said


def assert_at_rest(cloud: Cloud) -> None:
    until("the end of all bills", lambda: not cloud.meter.billing(), 30)


def test_no_key(user: Desk) -> None:
    assert_said(user.run(*TINY, JL_API_KEY=""), CREDENTIALS, "no key for Jarvis Labs", "JL_API_KEY")


def test_a_key_the_provider_refuses(user: Desk) -> None:
    ended = user.run(*TINY, JL_API_KEY="jl_wrong")
    assert_said(ended, CREDENTIALS, "key", "JL_API_KEY")
    assert "jl_wrong" not in ended.said


def test_a_dry_run_without_a_key_has_dated_prices(user: Desk) -> None:
    ended = user.run(*TINY, "--dry-run", JL_API_KEY="")
    assert_said(ended, 0, "prices are dated", "kept with ftlaunch", "an hour")


def test_a_dry_run_with_a_key_asks_today_s_prices(user: Desk) -> None:
    assert_said(user.run(*TINY, "--dry-run"), 0, "Jarvis Labs, live")


def test_a_gated_model_is_refused_before_a_machine_is_ordered(user: Desk, cloud: Cloud) -> None:
    with Hub() as hub:
        hub.add("owner/model", gated=True)
        hub.add("owner/rows", "dataset")
        (user.here / "r.yml").write_text(RECIPE + "sequence_len: 128\nnum_epochs: 1\n")
        argv = ("train", "r.yml", "-b", "jarvis", "-g", "L4", "-y", "-s", "HF_TOKEN")
        before = len(cloud.requests)
        hub.account(TOKEN, "me")
        ended = user.run(*argv, HF_ENDPOINT=hub.url, HF_HUB_OFFLINE="", HF_TOKEN=TOKEN)
    assert_said(ended, REFUSED, "owner/model is gated", "agree to its terms")
    assert TOKEN not in ended.said
    assert [one.path for one in cloud.requests[before:] if one.method != "GET"] == []


def test_no_balance(user: Desk, cloud: Cloud) -> None:
    from decimal import Decimal

    cloud.set_balance(Decimal(0))
    try:
        assert_said(user.run(*TINY), FAILED, "balance")
    finally:
        cloud.set_balance(Decimal(100))
    assert_at_rest(cloud)


def test_a_gpu_it_does_not_have(user: Desk) -> None:
    assert_said(user.run(*TINY, "-g", "A10"), USAGE, "no GPU named 'A10'", "A100")


def test_a_gpu_with_none_free(user: Desk, cloud: Cloud) -> None:
    cloud.capacity("A100", NOIDA, 0)
    try:
        ended = user.run(*TINY, "-g", "A100")
        assert_said(ended, CAPACITY, "no A100 free now in IN2", "free now:", "an hour in IN2")
    finally:
        cloud.capacity("A100", NOIDA, 8)


def test_more_gpus_than_a_machine_has(user: Desk) -> None:
    ended = user.run(*TINY, "-g", "A100:16")
    assert_said(ended, USAGE, "A100 x 16", "at most A100 x 8", "-g A100:8")


def test_a_price_above_the_limit(user: Desk) -> None:
    ended = user.run(*TINY, "-g", "H200", "--max-price", "1")
    assert_said(ended, CAPPED, "above the limit of 1", "--max-price")


def test_a_limit_in_dollars_on_an_account_in_rupees(user: Desk, cloud: Cloud) -> None:
    cloud.currency("INR")
    try:
        ended = user.run(*TINY, "--max-cost", "5")
        assert_said(ended, CAPPED, "pays in INR", "--max-duration")
    finally:
        cloud.currency("USD")


def test_a_disk_too_small_for_a_virtual_machine_is_made_larger_and_said(user: Desk) -> None:
    recipe = "recipe: tiny\nhardware: {disk: 50}\n"
    (user.here / "small.yml").write_text(recipe)
    ended = user.run("train", "tiny", "-b", "jarvis:vm", "--dry-run")
    assert_said(ended, 0, "100 GiB of disk")


@pytest.mark.seldom
def test_a_machine_that_never_becomes_reachable(user: Desk, cloud: Cloud) -> None:
    cloud.fate("ftl-one-.*", reach="refuse")
    ended = user.run(*TINY, "-g", "cpu")
    assert_said(ended, FAILED, "does not answer")
    assert_at_rest(cloud)


def test_a_machine_that_cannot_be_made(user: Desk, cloud: Cloud) -> None:
    cloud.fate("ftl-one-.*", fail="no host has room")
    ended = user.run(*TINY, "-g", "cpu")
    assert_said(ended, FAILED, "no host has room")
    assert_at_rest(cloud)


def test_an_ssh_key_with_wrong_permissions(user: Desk, cloud: Cloud) -> None:
    from jarvislabs import Client

    folder = Path(user.variables["HOME"]) / ".ssh"
    guest = Guest(folder)
    guest.key.chmod(0o644)
    with Client(cloud.key) as client:
        client.ssh_keys.add(guest.public, "mine")
    ended = user.run(*TINY, "-g", "cpu")
    assert_said(ended, REFUSED, "id_ed25519", "chmod 600")
    assert_at_rest(cloud)


# ── a machine that something happens to while the job runs ────────────────────────────────────────


@pytest.fixture
def running(user: Desk, rig: OnJarvis, request: pytest.FixtureRequest) -> Iterator[Toy]:
    """A toy run on a rented machine, its training begun."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**user.variables, "FTLAUNCH_STATE_DIR": str(user.state)}.items():
            patch.setenv(name, value)
        size = getattr(request, "param", None)
        if size is not None:
            rig.provider.fate("ftl-toy-.*", home_mib=size)
        with toy(user.here.parent, seconds=15, backend="jarvis", offer=rig.offer()) as made:
            argv = [sys.executable, "-m", "launcher.run.conductor", made.run.id]
            conductor = subprocess.Popen(argv, env=user.environ, start_new_session=True)
            until("the job to run", lambda: _launched(made))
            yield made
            user.run("stop", "--now", made.run.name)
            conductor.wait(60)


def _launched(made: Toy) -> Any:
    job = made.store.jobs(made.run.id)[0]
    return job.launched_at is not None or job.ended_at is not None


def machine(rig: OnJarvis) -> int:
    return int([m for m in rig.provider.machines if m.gone is None][-1].id)


def test_a_machine_destroyed_by_hand(user: Desk, rig: OnJarvis, running: Toy) -> None:
    rig.provider.dashboard_destroy(machine(rig))
    ended = user.run("wait", running.run.name)
    assert_said(ended, LOST)
    said = user.run("inspect", running.run.name)
    assert_said(said, 0, "destroyed outside ftlaunch")
    assert_at_rest(rig.provider)


def test_a_machine_paused_by_hand(user: Desk, rig: OnJarvis, running: Toy) -> None:
    rig.provider.dashboard_pause(machine(rig))
    ended = user.run("wait", running.run.name)
    assert_said(ended, LOST)
    # What it had written until then came home, and nothing is left there.
    assert (running.out / "output" / "starts-train").read_text() == "started\n"
    assert_at_rest(rig.provider)


@pytest.mark.parametrize("running", [16], indirect=True, ids=["16MiB"])
def test_a_machine_whose_disk_fills_up(user: Desk, rig: OnJarvis, running: Toy) -> None:
    rig.provider.fill(machine(rig))
    ended = user.run("wait", running.run.name)
    assert_said(ended, FAILED)
    facts = user.run("inspect", running.run.name, "--json").json()
    assert facts["jobs"][0]["phase"] == "failed"
    assert "No space left" in user.run("logs", running.run.name).out
    assert_at_rest(rig.provider)
