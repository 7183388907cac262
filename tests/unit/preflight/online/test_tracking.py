"""What a run tells Weights & Biases: its key, and the entity."""

from __future__ import annotations

import pytest
from asked import KEY, RECIPE, Asked
from clouds.hub import Wandb

CURVES = RECIPE + "wandb_project: p\n"
OURS = CURVES + "wandb_entity: {}\n"


@pytest.fixture
def user(user: Asked) -> Asked:
    user.terminal["WANDB_API_KEY"] = KEY
    return user


@pytest.mark.parametrize("entity", ["me", "acme", "Acme"])
def test_an_entity_of_one_s_own(user: Asked, entity: str) -> None:
    user.wandb.account(KEY, "me", ["acme"])
    answered = user.examine(OURS.format(entity), "WANDB_API_KEY")
    assert (answered.problems, answered.not_checked) == ((), ())


def test_somebody_else_s_entity(user: Asked) -> None:
    user.wandb.account(KEY, "me", ["acme"])
    problem = user.only(OURS.format("acne"), "WANDB_API_KEY")
    assert problem.where == "r.yml:7"
    assert (
        "wandb_entity acne is neither you nor a team of yours at W&B (me, acme)" in problem.message
    )
    assert "axolotl stops when training begins" in problem.message
    assert problem.fix.startswith("wandb_entity: acme,")


@pytest.mark.parametrize("polite", [True, False])
@pytest.mark.parametrize(("text", "line"), [(CURVES, 6), (OURS.format("me"), 7)])
def test_a_key_that_is_not_accepted(user: Asked, polite: bool, text: str, line: int) -> None:
    with Wandb(polite=polite) as user.wandb:
        problem = user.only(text, "WANDB_API_KEY")
    assert problem.where == f"r.yml:{line}"
    assert f"{user.wandb.host} does not accept WANDB_API_KEY" in problem.message
    assert "/authorize" in problem.fix


def test_a_service_that_lists_no_teams(user: Asked) -> None:
    user.wandb.account(KEY, "me", None)
    answered = user.examine(OURS.format("acme"), "WANDB_API_KEY")
    assert answered.problems == ()
    assert "does not list your teams" in answered.not_checked[0]


def test_the_key_that_wandb_login_left_counts_here_only(user: Asked) -> None:
    del user.terminal["WANDB_API_KEY"]
    kept = user.folder / ".netrc"
    kept.write_text(f"machine {user.wandb.host}\n  login user\n  password {KEY}\n")
    kept.chmod(0o600)
    user.wandb.account(KEY, "me")
    assert "neither you" in user.only(OURS.format("zz"), here=True).message
    answered = user.examine(OURS.format("zz"))
    assert answered.problems == ()
    assert answered.not_checked == ("wandb_entity zz: the run gets no WANDB_API_KEY",)


@pytest.mark.parametrize(
    "more",
    ["wandb_mode: offline\n", "wandb_mode: disabled\n", "wandb_project: ''\n"],
)
def test_wandb_that_is_off_is_not_asked(user: Asked, more: str) -> None:
    text = OURS.format("zz").replace("wandb_project: p\n", "") if "project" in more else OURS
    user.examine(text.format("zz") + more, "WANDB_API_KEY")
    assert user.wandb.requests == []


def test_wandb_that_its_variable_turns_off_is_not_asked(user: Asked) -> None:
    user.examine(OURS.format("zz"), "WANDB_API_KEY", env={"WANDB_MODE": "offline"})
    user.examine(OURS.format("zz"), "WANDB_API_KEY", trains=False)
    assert user.wandb.requests == []


def test_an_error_of_its_graphql_is_no_verdict(user: Asked) -> None:
    user.wandb.mood = 400
    answered = user.examine(OURS.format("zz"), "WANDB_API_KEY")
    assert answered.problems == ()
    assert answered.not_checked == (
        f"wandb_entity zz: {user.wandb.host} could not say (it answered 400)",
    )
