"""What a run uploads: to whom it belongs, and whether the token may write there."""

from __future__ import annotations

from typing import Any

import pytest
from asked import RECIPE, TOKEN, Asked

UP = RECIPE + "hub_model_id: {}\n"


@pytest.fixture
def user(user: Asked) -> Asked:
    user.terminal["HF_TOKEN"] = TOKEN
    return user


def scope(kind: str, name: str, *permissions: str) -> dict[str, Any]:
    return {"entity": {"_id": "1", "type": kind, "name": name}, "permissions": list(permissions)}


@pytest.mark.parametrize("place", ["me/mine", "Me/mine", "mine", "acme/mine", "beta/mine"])
def test_where_one_may_write(user: Asked, place: str) -> None:
    user.hub.account(TOKEN, "me", orgs={"acme": "contributor", "beta": "admin"})
    answered = user.examine(UP.format(place), "HF_TOKEN")
    assert (answered.problems, answered.not_checked) == ((), ())


def test_somebody_else_s_place(user: Asked) -> None:
    user.hub.account(TOKEN, "me", orgs={"acme": "write", "readers": "read"})
    problem = user.only(UP.format("acne/mine"), "HF_TOKEN")
    assert problem.where == "r.yml:6"
    assert "hub_model_id is under acne" in problem.message
    assert "may write to me or acme only; axolotl stops once the model is" in problem.message
    assert problem.fix == "hub_model_id: acme/mine"
    assert user.only(UP.format("zz/mine"), "HF_TOKEN").fix == "hub_model_id: me/mine"


def test_a_role_that_may_not_write(user: Asked) -> None:
    user.hub.account(TOKEN, "me", orgs={"acme": "read"})
    problem = user.only(UP.format("acme/mine"), "HF_TOKEN")
    assert "me has the role read in acme" in problem.message
    assert problem.fix.endswith("take hub_model_id: me/mine")


def test_a_role_in_a_group_cannot_be_told_from_outside(user: Asked) -> None:
    user.hub.account(TOKEN, "me", orgs={"acme": "read"}, groups={"acme": ["write"]})
    answered = user.examine(UP.format("acme/mine"), "HF_TOKEN")
    assert answered.problems == ()
    assert "acme/mine: whether HF_TOKEN may write there" in answered.not_checked[0]


def test_a_token_that_only_reads(user: Asked) -> None:
    user.hub.account(TOKEN, "me", role="read")
    problem = user.only(UP.format("me/mine"), "HF_TOKEN")
    assert "HF_TOKEN may only read, and hub_model_id writes" in problem.message
    assert f"{user.hub.url}/settings/tokens" in problem.fix


@pytest.mark.parametrize(
    ("scoped", "place", "fine"),
    [
        ([scope("user", "me", "repo.content.read", "repo.write")], "me/mine", True),
        ([scope("model", "me/mine", "repo.write")], "me/mine", True),
        ([scope("org", "acme", "repo.write")], "acme/mine", True),
        ([scope("user", "me", "repo.content.read", "discussion.write")], "me/mine", False),
        ([scope("user", "me", "repo.write")], "acme/mine", False),
        ([scope("dataset", "me/mine", "repo.write")], "me/mine", False),
        ([], "me/mine", False),
    ],
)
def test_a_fine_grained_token(
    user: Asked, scoped: list[dict[str, Any]], place: str, fine: bool
) -> None:
    user.hub.account(TOKEN, "me", role="fineGrained", scoped=scoped, orgs={"acme": "write"})
    answered = user.examine(UP.format(place), "HF_TOKEN")
    if fine:
        assert answered.problems == ()
        return
    (problem,) = answered.problems
    assert f"HF_TOKEN has no right to write to {place.partition('/')[0]}" in problem.message


def test_a_token_that_says_nothing_of_itself(user: Asked) -> None:
    user.hub.account(TOKEN, "me", role=None)
    assert user.examine(UP.format("me/mine"), "HF_TOKEN").problems == ()
    answered = user.examine(UP.format("acme/mine"), "HF_TOKEN")
    assert answered.problems == ()
    assert "cannot be told from outside" in answered.not_checked[0]


def test_all_uploads_are_one_question(user: Asked) -> None:
    user.hub.account(TOKEN, "me")
    text = UP.format("me/mine") + "push_dataset_to_hub: zz/rows\ntrackio_space_id: me/curves\n"
    problem = user.only(text, "HF_TOKEN")
    assert problem.message.startswith("push_dataset_to_hub is under zz")
    assert problem.message.endswith("axolotl stops once the data are prepared")
    assert [one.path for one in user.hub.requests].count("/api/whoami-v2") == 1


def test_what_only_prepares_writes_no_model(user: Asked) -> None:
    assert user.examine(UP.format("zz/mine"), "HF_TOKEN", trains=False).problems != ()  # refused
    user.hub.account(TOKEN, "me")
    assert user.examine(UP.format("zz/mine"), "HF_TOKEN", trains=False).problems == ()


def test_no_token_at_all_is_what_the_offline_check_says(user: Asked) -> None:
    del user.terminal["HF_TOKEN"]
    answered = user.examine(UP.format("me/mine"))
    assert (answered.problems, answered.outdated) == ((), frozenset())


def test_a_login_that_does_not_travel(user: Asked) -> None:
    from launcher import preflight, recipe

    del user.terminal["HF_TOKEN"]
    user.log_in()
    answered = user.examine(UP.format("me/mine"))
    (problem,) = answered.with_known(preflight.examine(recipe.load("r.yml", cwd=user.folder)))
    assert problem.severity == "warning"
    assert "this machine is logged in to the hub, which does not travel" in problem.message


def test_here_a_missing_login_is_an_error(user: Asked) -> None:
    problem = user.only(UP.format("me/mine"), here=True)
    assert "HF_TOKEN is set here, and not among its secrets" in problem.message
    user.log_in()
    user.hub.account(TOKEN, "me")
    assert user.examine(UP.format("me/mine"), here=True).problems == ()


@pytest.mark.parametrize("shape", [{"name": None}, {"orgs": "x", "auth": 3}, {"orgs": [1, {}]}])
def test_an_answer_of_another_shape_is_no_error(user: Asked, shape: dict[str, Any]) -> None:
    user.hub.account(TOKEN, "me", shape=shape)
    answered = user.examine(UP.format("me/mine"), "HF_TOKEN")
    assert answered.problems == ()
