"""A service that is away, slow or ill is never an error, and holds nobody."""

from __future__ import annotations

import socket

import pytest
from asked import KEY, RECIPE, TOKEN, Asked

ALL = RECIPE + "hub_model_id: zz/mine\nwandb_project: p\nwandb_entity: zz\n"
SECRETS = ("HF_TOKEN", "WANDB_API_KEY")


@pytest.fixture
def user(user: Asked) -> Asked:
    user.terminal.update({"HF_TOKEN": TOKEN, "WANDB_API_KEY": KEY})
    return user


@pytest.mark.parametrize(
    ("mood", "why"),
    [
        (429, "is asked too often just now (429)"),
        (500, "could not say (it answered 500)"),
        (503, "could not say (it answered 503)"),
        (404, "could not say (it answered 404)"),  # a mirror that lacks the call
        ("hang", "did not answer within 0.5 s"),
    ],
)
def test_what_is_not_answered_is_told(user: Asked, mood: int | str, why: str) -> None:
    user.hub.mood = user.wandb.mood = mood
    answered = user.examine(ALL, *SECRETS, patience_s=0.5 if mood == "hang" else 60)
    assert answered.problems == ()
    assert list(answered.not_checked) == [
        f"owner/model, owner/rows, hub_model_id: {user.hub.host} {why}",
        f"wandb_entity zz: {user.wandb.host} {why}",
    ]


def test_a_page_of_a_hotel_is_no_verdict(user: Asked) -> None:
    user.hub.mood = user.wandb.mood = "nonsense"
    answered = user.examine(ALL, *SECRETS)
    assert answered.problems == ()
    assert answered.not_checked == (
        f"hub_model_id: {user.hub.host} answered what nobody understands",
        f"wandb_entity zz: {user.wandb.host} answered what nobody understands",
    )


def test_late_answers_count(user: Asked) -> None:
    user.hub.account(TOKEN, "me")
    user.wandb.account(KEY, "me")
    user.hub.mood = user.wandb.mood = "slow"
    assert len(user.examine(ALL, *SECRETS).problems) == 2


def test_nobody_there(user: Asked) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
        user.terminal["HF_ENDPOINT"] = f"http://127.0.0.1:{port}"
        user.terminal["WANDB_BASE_URL"] = f"http://localhost:{port}"
        answered = user.examine(ALL, *SECRETS)
    assert answered.problems == ()
    assert answered.not_checked == (
        f"owner/model, owner/rows, hub_model_id: 127.0.0.1:{port} could not be reached",
        f"wandb_entity zz: localhost:{port} could not be reached",
    )


@pytest.mark.parametrize(
    "address", ["not an address", "ftp://127.0.0.1", "http://[::1", "http://:x"]
)
def test_an_address_that_is_none(user: Asked, address: str) -> None:
    user.terminal.update({"HF_ENDPOINT": address, "WANDB_BASE_URL": address})
    answered = user.examine(ALL, *SECRETS)
    assert answered.problems == ()
    (said,) = answered.not_checked
    assert said.startswith("owner/model, owner/rows, hub_model_id, wandb_entity zz: ")


@pytest.mark.parametrize("name", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_a_terminal_that_is_offline_asks_nothing_of_the_hub(user: Asked, name: str) -> None:
    user.terminal[name] = "1"
    user.wandb.account(KEY, "zz")
    answered = user.examine(ALL, *SECRETS)
    assert answered.problems == ()
    assert answered.not_checked == (
        "owner/model, owner/rows, zz/mine on the hub: HF_HUB_OFFLINE is set",
    )
    assert user.hub.requests == []
