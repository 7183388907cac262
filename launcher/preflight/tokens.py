"""Tokens that a run will ask for in its middle: said before it starts, as warnings.

Always warnings: the machine may be logged in by itself, and a repository may need no token.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from launcher.preflight.problem import Look, Problem
from launcher.recipe.keypath import KeyPath
from launcher.recipe.model import kept_secret
from launcher.recipe.references import Fate, Kind
from launcher.wording import shown

HF_NAMES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
UPLOADS: dict[str, Literal["model", "dataset", "space"]] = {
    "hub_model_id": "model",
    "push_dataset_to_hub": "dataset",
    "trackio_space_id": "space",
}
"""The keys that name what is uploaded to, and what that is."""
GATED = ("meta-llama/", "google/gemma", "mistralai/", "CohereLabs/", "CohereForAI/", "bigcode/")
"""How the ids of models begin whose owners often let only those in who agreed to their terms."""

_TRACKERS = (
    (("wandb_project",), "wandb_mode", "", "WANDB_API_KEY", "wandb is logged in on the machine"),
    (
        ("use_comet", "comet_project_name"),
        *("comet_mode", "comet_api_key", "COMET_API_KEY", "comet is configured on the machine"),
    ),
    (
        ("use_swanlab",),
        *("swanlab_mode", "swanlab_api_key", "SWANLAB_API_KEY", "swanlab is logged in there"),
    ),
)
"""Keys that turn a tracker on, its mode, the key that may hold its token, its variable, unless."""

_NO_NETWORK = {"offline", "disabled", "dryrun", "local"}


def trackers(look: Look) -> Iterator[Problem]:
    """Services that keep the run's curves."""
    for keys, mode, inside, name, unless in _TRACKERS:
        key = next((key for key in keys if look.config.get(key)), None)
        if key and not look.config.get(inside) and not _offline(look, mode):
            yield from _needs(look, key, (name,), unless)
    server = look.config.get("mlflow_tracking_uri")
    if look.config.get("use_mlflow") and not (
        server or "MLFLOW_TRACKING_URI" in look.recipe.launch.env
    ):
        yield look.warning(
            ("use_mlflow",),
            "use_mlflow without mlflow_tracking_uri writes to the machine's own disk, and goes "
            "with it",
            "add mlflow_tracking_uri: https://…",
        )


def hub(look: Look) -> Iterator[Problem]:
    """Uploads to the Hugging Face hub, and what it gives only to those it knows."""
    yield from (problem for _, problem in about_hub(look))


def about_hub(look: Look) -> Iterator[tuple[KeyPath, Problem]]:
    """The same with the key that each is about: `launcher.preflight.online` knows better."""
    for key in (*UPLOADS, "hf_use_auth_token"):
        if look.config.get(key):
            unless = "the machine is logged in to the Hugging Face hub"
            yield from (((key,), one) for one in _needs(look, key, HF_NAMES, unless))
    if _given(look, HF_NAMES):
        return
    for ref in look.references:
        brought = ref.text in look.recipe.launch.models
        if ref.kind is not Kind.MODEL or ref.fate is not Fate.HUB or brought:
            continue
        if ref.text.startswith(GATED):
            yield (
                ref.key,
                look.warning(
                    ref.key,
                    f"{shown(ref.text)} may be gated, and HF_TOKEN is not among the secrets",
                    f"agree to its terms on the hub, and {way('HF_TOKEN')}",
                ),
            )


def _needs(look: Look, key: str, names: tuple[str, ...], unless: str) -> Iterator[Problem]:
    if not _given(look, names):
        message = f"{key} needs {names[0]}, which is not among the secrets"
        yield look.warning((key,), message, f"{way(names[0])}, unless {unless}")


def _given(look: Look, names: tuple[str, ...]) -> bool:
    given = (*look.secrets, *look.recipe.launch.secrets)
    # What a secret that a provider keeps holds is not known here: the benefit of the doubt.
    return any(name in given for name in names) or any(map(kept_secret, given))


def way(name: str) -> str:
    """How a run is given a secret."""
    return f"add `-s {name}` when you train, or `secrets: [{name}]` to a launch recipe"


def _offline(look: Look, key: str) -> bool:
    """Whether the tracker is told to keep to itself, in the config or by its variable."""
    said = (look.config.get(key), look.recipe.launch.env.get(key.upper()))
    return any(map(offline, said))


def offline(mode: object) -> bool:
    """Whether this mode of a tracker needs no network."""
    return str(mode).lower() in _NO_NETWORK
