"""Tokens a run will want, and a step without its data: said before it starts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from launcher import preflight, recipe
from launcher.preflight import Problem

Examine = Callable[[str], list[Problem]]
GOOD = "base_model: owner/model\ndatasets:\n- path: owner/set\n  type: alpaca\n"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("wandb_project: p\n", "WANDB_API_KEY"),
        ("hub_model_id: me/mine\n", "HF_TOKEN"),
        ("hf_use_auth_token: true\n", "HF_TOKEN"),
        ("comet_project_name: p\n", "COMET_API_KEY"),
        ("use_swanlab: true\nplugins: [axolotl.integrations.swanlab.S]\n", "SWANLAB_API_KEY"),
        ("trackio_space_id: me/curves\n", "HF_TOKEN"),
    ],
)
def test_a_token_that_is_not_among_the_secrets_is_a_warning(
    examine: Examine, folder: Path, text: str, name: str
) -> None:
    (problem,) = examine(GOOD + text)
    assert (problem.severity, problem.where) == ("warning", "r.yml:5")
    assert f"-s {name}" in problem.fix
    found = recipe.load("r.yml", cwd=folder)
    assert preflight.examine(found, secrets=[name]) == []
    config = "".join(f"  {line}\n" for line in (GOOD + text).splitlines())
    assert examine(f"secrets: [{name}]\nconfig:\n{config}") == []


def test_mlflow_without_a_server_is_a_warning(examine: Examine) -> None:
    (problem,) = examine(GOOD + "use_mlflow: true\n")
    assert (problem.severity, problem.where) == ("warning", "r.yml:5")
    assert examine(GOOD + "use_mlflow: true\nmlflow_tracking_uri: https://m.example\n") == []


def test_wandb_that_stays_here_needs_no_key(examine: Examine) -> None:
    assert examine(GOOD + "wandb_project: p\nwandb_mode: offline\n") == []
    config = "".join(f"  {line}\n" for line in (GOOD + "wandb_project: p\n").splitlines())
    assert examine(f"env: {{WANDB_MODE: disabled}}\nconfig:\n{config}") == []


def test_a_model_of_a_gated_family_is_a_warning(examine: Examine, folder: Path) -> None:
    text = GOOD.replace("owner/model", "meta-llama/Llama-3.2-1B")
    (problem,) = examine(text)
    assert (problem.severity, problem.where) == ("warning", "r.yml:1")
    assert "may be gated" in problem.message
    assert "-s HF_TOKEN" in problem.fix
    assert preflight.examine(recipe.load("r.yml", cwd=folder), secrets=["HF_TOKEN"]) == []
    (folder / "meta-llama" / "Llama-3.2-1B").mkdir(parents=True)
    assert examine(text) == []


def test_an_evaluation_without_data_is_a_warning(examine: Examine) -> None:
    config = "".join(f"  {line}\n" for line in GOOD.splitlines())
    (problem,) = examine(f"steps:\n  evaluate: true\nconfig:\n{config}")
    assert (problem.severity, problem.where) == ("warning", "r.yml:2")
    assert examine(f"steps: {{evaluate: true}}\nconfig:\n{config}  val_set_size: 0.1\n") == []
