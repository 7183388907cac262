"""What can go wrong with an account at Modal: one sentence, a way out, nothing billed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from clouds.modal.cloud import Cloud
from desks import Desk, Ended
from modal_rig import OnModal, modal
from toy_run import toy

from backends.offer import Money, Offer
from launcher.run.conductor import conduct

pytestmark = pytest.mark.timeout(300)

FAILED, USAGE, REFUSED, CREDENTIALS, CAPACITY, LOST, CAPPED, MAY_BILL = 1, 2, 3, 4, 5, 6, 7, 8
TINY = ("train", "tiny", "-b", "modal", "-y", "-n", "one")
TRAIN_ONLY = "config: tiny\nsteps: {preprocess: false, merge: false}\n"
"""The training itself is what takes a GPU: nothing is got ready before it."""
OFFER = Offer("modal", None, 0, Money(Decimal(1)), cpus=1, memory_gib=1.0, data={"gpus": ""})


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnModal]:
    folder = tmp_path_factory.mktemp("modal")
    with modal(folder / "cloud", folder / "unused") as made:
        yield made


@pytest.fixture
def cloud(rig: OnModal) -> Iterator[Cloud]:
    yield rig.provider
    rig.provider.forgive()
    assert rig.provider.billing() == []


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


SEVERAL = ("train", "several.yml", "-b", "modal", "--dry-run")


def test_several_nodes_are_planned_with_the_price_of_all(user: Desk) -> None:
    two = 'config: tiny\nhardware: {gpu: "H100:8", nodes: 2}\n'
    (user.here / "several.yml").write_text(two)
    ended = user.run(*SEVERAL, "--max-cost", "20")
    # $3.95 x 8 + 8 x $0.0473 + 64 x $0.008 for each; $20 at that price
    assert_said(ended, 0, "2 nodes x H100:8, $64.98 an hour, $32.49 each")
    assert_said(ended, 0, "ends by itself after 0:18:28", "--num_processes 16 --num_machines 2")
    train, merge = ended.said.partition("job merge")[::2]
    assert "--machine_rank $NODE_RANK" in train.partition("job train")[2]
    assert "without a GPU" in merge
    assert "NODE_RANK" not in merge
    assert_said(user.run(*SEVERAL, "--max-price", "60"), CAPPED, "$64.98 an hour")


def test_what_is_no_cluster_at_modal_is_refused(user: Desk) -> None:
    (user.here / "several.yml").write_text("config: tiny\nhardware: {gpu: L4, nodes: 2}\n")
    ended = user.run(*SEVERAL)
    assert_said(ended, REFUSED, "whole machines, with 8 GPUs each", "2 with L4:1", "-b skypilot")


def test_no_token(user: Desk) -> None:
    ended = user.run(*TINY, MODAL_TOKEN_ID="", MODAL_TOKEN_SECRET="")
    assert_said(ended, CREDENTIALS, "there is no token for Modal", "modal token new")


def test_an_expired_token(user: Desk, cloud: Cloud) -> None:
    cloud.set(expired=True)
    try:
        ended = user.run(*TINY)
    finally:
        cloud.set(expired=False)
    assert_said(ended, CREDENTIALS, "does not accept the token", "expired", "modal token new")
    assert cloud.token_secret not in ended.said


def test_a_dry_run_without_a_token_has_dated_prices(user: Desk) -> None:
    ended = user.run(*TINY, "--dry-run", MODAL_TOKEN_ID="", MODAL_TOKEN_SECRET="")
    assert_said(ended, 0, "prices are dated", "Modal's price list")


def test_a_dry_run_with_a_token_asks_today_s_prices(user: Desk) -> None:
    assert_said(user.run(*TINY, "--dry-run"), 0, "Modal, live")


def test_a_gpu_it_does_not_have(user: Desk) -> None:
    assert_said(user.run(*TINY, "-g", "H1000"), USAGE, "no GPU named 'H1000'", "H100")


def test_a_workspace_without_a_quota_for_it(user: Desk, cloud: Cloud) -> None:
    (user.here / "only.yml").write_text(TRAIN_ONLY)
    cloud.set(quota=["T4"])
    try:
        ended = user.run("train", "only.yml", *TINY[2:], "-g", "H100")
    finally:
        cloud.set(quota=["T4", "H100"])
    assert_said(ended, REFUSED, "no quota for GPU type H100")


def test_an_image_that_does_not_build(user: Desk, cloud: Cloud) -> None:
    cloud.set(breaks=["error: no wheel for this platform"])
    try:
        ended = user.run(*TINY, "-g", "T4")
    finally:
        cloud.set(breaks=[])
    assert_said(ended, FAILED, "no wheel for this platform")


def test_a_secret_that_modal_does_not_keep(user: Desk) -> None:
    ended = user.run(*TINY, "-s", "modal:no-such-keys")
    assert_said(ended, REFUSED, "keeps no secret named 'no-such-keys'", "modal secret create")


def test_a_secret_that_is_kept_elsewhere(user: Desk) -> None:
    ended = user.run("train", "tiny", "-b", "local", "-y", "-s", "modal:my-keys")
    assert_said(ended, REFUSED, "kept at modal", "-s NAME")


def test_a_sdk_that_is_too_old(user: Desk, cloud: Cloud) -> None:
    cloud.set(least_version="9.0")
    try:
        ended = user.run(*TINY)
    finally:
        cloud.set(least_version="")
    assert_said(ended, REFUSED, "too old", "pip install --upgrade modal")


def test_a_volume_at_its_limit(user: Desk, cloud: Cloud) -> None:
    user.run("check", "-b", "modal")
    with toy(user.here, seconds=0.2, backend="modal", offer=OFFER) as made:
        environ = pytest.MonkeyPatch()
        environ.setenv("FTLAUNCH_STATE_DIR", str(made.state))
        try:
            conduct(made.run.id)
            cloud.admin("limit", volume="ftlaunch-runs", limit=1)
            ended = Desk(user.here, made.state, user.variables).run("merge", "toy", "-y")
        finally:
            cloud.admin("limit", volume="ftlaunch-runs", limit=None)
            environ.undo()
    assert ended.code != 0
    assert "Traceback" not in ended.said


def test_a_function_that_never_starts_says_so_and_can_be_stopped(user: Desk, cloud: Cloud) -> None:
    (user.here / "only.yml").write_text(TRAIN_ONLY)
    cloud.set(full=["T4"])
    try:
        begun = user.run("train", "only.yml", *TINY[2:], "-g", "T4", "-d")
        assert_said(begun, 0)
        end = time.monotonic() + 60
        while "no container" not in (said := user.run("inspect", "one").said):
            assert time.monotonic() < end, said
            time.sleep(0.5)
        assert "queued" in user.run("ps").said
        cloud.set(expired=True)
        try:
            refused = user.run("stop", "one", timeout=120)
        finally:
            cloud.set(expired=False)
        assert_said(refused, MAY_BILL, "may still bill: Modal does not accept", "ftlaunch stop one")
        stopped = user.run("stop", "--now", "one")
        assert stopped.code == 0, stopped.said
    finally:
        cloud.set(full=[])
    assert user.run("ps").said.startswith("no run is alive")
