"""What the hub and W&B say, as a user meets it: `validate --online`, and a refused launch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from asked import KEY, RECIPE, TOKEN
from clouds.hub import Hub, Wandb
from desks import Desk

OK, REFUSED = 0, 3
LORA = "adapter: lora\nlora_r: 8\nlora_alpha: 16\nlora_target_linear: true\n"
TEXT = RECIPE + LORA + "sequence_len: 128\nmicro_batch_size: 1\nnum_epochs: 1\n"
TRAIN = ("train", "r.yml", "-b", "local", "-g", "cpu", "-y", "-n", "one")


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as made:
        made.add("owner/model")
        made.add("owner/rows", "dataset")
        made.account(TOKEN, "me")
        yield made


@pytest.fixture
def user(desk: Desk, tmp_path: Path, hub: Hub) -> Desk:
    """Somebody with a home of their own, and a token in the terminal."""
    home = tmp_path / "home"
    home.mkdir()
    made = Desk(
        desk.here,
        desk.state,
        {
            "HOME": str(home),
            "XDG_CACHE_HOME": str(home / "cache"),
            "HF_ENDPOINT": hub.url,
            "HF_TOKEN": TOKEN,
            "HF_HUB_OFFLINE": "",
            "WANDB_API_KEY": KEY,
        },
    )
    (made.here / "r.yml").write_text(TEXT)
    return made


def nothing_begun(user: Desk) -> bool:
    store = user.store()
    try:
        return store.runs() == [] and not (user.here / "runs").exists()
    finally:
        store.close()


def test_validate_says_what_it_would_ask_and_asks_when_it_is_told_to(user: Desk, hub: Hub) -> None:
    plain = user.run("validate", "r.yml")
    assert plain.code == OK, plain.said
    assert "owner/model, owner/rows on the hub (--online asks)" in plain.out
    assert hub.requests == []
    asked = user.run("validate", "r.yml", "--online")
    assert asked.code == OK, asked.said
    assert "not checked: hub data set owner/rows\n" in asked.out
    assert len(hub.requests) == 2


def test_validate_asks_with_the_token_that_the_run_would_get(user: Desk, hub: Hub) -> None:
    hub.add("owner/model", gated=True, readers=["me"])
    refused = user.run("validate", "r.yml", "--online", "--json")
    assert refused.code == REFUSED, refused.said
    (problem,) = refused.json()["problems"]
    assert (problem["severity"], problem["where"]) == ("error", "r.yml:1")
    assert "gated" in problem["message"]
    assert "-s HF_TOKEN" in problem["fix"]
    given = user.run("validate", "r.yml", "--online", "-s", "HF_TOKEN")
    assert given.code == OK, given.said


def test_validate_asks_weights_and_biases(user: Desk) -> None:
    (user.here / "r.yml").write_text(TEXT + "wandb_project: p\nwandb_entity: acne\n")
    with Wandb() as wandb:
        wandb.account(KEY, "me", ["acme"])
        ended = user.run(
            *("validate", "r.yml", "--online", "-s", "WANDB_API_KEY"), WANDB_BASE_URL=wandb.url
        )
    assert ended.code == REFUSED, ended.said
    assert "wandb_entity: acme" in ended.out


def test_a_hub_that_hangs_holds_nobody(user: Desk, hub: Hub) -> None:
    hub.mood = "hang"
    ended = user.run("validate", "r.yml", "--online", timeout=120)
    assert ended.code == OK, ended.said
    assert f"owner/model, owner/rows: {hub.host} did not answer within 5 s" in ended.out


def test_train_refuses_before_anything_is_begun(user: Desk, hub: Hub) -> None:
    hub.add("owner/model", gated=True)
    for more in ((), ("-s", "HF_TOKEN")):
        ended = user.run(*TRAIN, *more)
        assert ended.code == REFUSED, ended.said
        assert "owner/model is gated" in ended.err
        assert f"{hub.url}/owner/model" in ended.err
        assert nothing_begun(user)


def test_an_upload_to_somebody_else_is_refused(user: Desk) -> None:
    (user.here / "r.yml").write_text(TEXT + "hub_model_id: other/mine\n")
    ended = user.run(*TRAIN, "-s", "HF_TOKEN")
    assert ended.code == REFUSED, ended.said
    assert "hub_model_id: me/mine" in ended.err
    assert nothing_begun(user)


def test_what_does_not_launch_asks_nobody(user: Desk, hub: Hub) -> None:
    hub.add("owner/model", gated=True)
    assert user.run(*TRAIN, "--dry-run").code == OK
    shape = ("--params", "1b", "--hidden", "2048", "--layers", "16")
    assert "GPU" in user.run("estimate", "r.yml", *shape).said
    assert hub.requests == []


def test_a_token_shows_nowhere(user: Desk, hub: Hub, tmp_path: Path) -> None:
    hub.add("owner/model", gated=True)
    said = [
        user.run("validate", "r.yml", "--online", "-s", "HF_TOKEN").said,
        user.run("validate", "r.yml", "--online", "-s", "HF_TOKEN", "--json", HF_DEBUG="1").said,
        user.run("--debug", *TRAIN, "-s", "HF_TOKEN").said,
    ]
    assert any(TOKEN in one.authorization for one in hub.requests)
    assert [text for text in said if TOKEN in text] == []
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path for path in kept if TOKEN.encode() in path.read_bytes()] == []
    assert json.dumps(said).count("owner/model") > 2
