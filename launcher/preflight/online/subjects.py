"""What of a recipe lies at the hub or at Weights & Biases; read from the config alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from launcher.preflight.tokens import UPLOADS, offline
from launcher.recipe.references import BUILDERS, Fate, Kind

if TYPE_CHECKING:
    from launcher.preflight.online.run import Run
    from launcher.preflight.problem import Look
    from launcher.recipe.keypath import KeyPath

RepoKind = Literal["model", "dataset", "space"]
_KINDS: dict[Kind, RepoKind] = {
    Kind.MODEL: "model",
    Kind.ADAPTER: "model",
    Kind.DATA: "dataset",
}


@dataclass(frozen=True)
class Repo:
    """A repository of the hub, and the key that names it.

    revision      what the recipe pins it to, at `revision_key`
    nobody        it is asked for without any token (`hf_use_auth_token: false`)
    """

    kind: RepoKind
    id: str
    key: KeyPath
    revision: str | None = None
    revision_key: KeyPath = ()
    nobody: bool = False


@dataclass(frozen=True)
class Curves:
    """A run that Weights & Biases is told of. `key` is what turns it on."""

    key: KeyPath
    entity: str | None


def read(look: Look) -> list[Repo]:
    """What is downloaded, models first; a repository that several keys name stands here once."""
    found: dict[tuple[str, str, str | None], Repo] = {}
    for ref in look.references:
        kind = _KINDS.get(ref.kind)
        brought = ref.text in look.recipe.launch.models
        if kind is None or ref.fate is not Fate.HUB or brought or ref.text in BUILDERS:
            continue
        repo = Repo(kind, ref.text, ref.key, *_revision(look, ref.key))
        if kind == "dataset" and look.config.get("hf_use_auth_token") is False:
            repo = Repo(kind, ref.text, ref.key, repo.revision, repo.revision_key, nobody=True)
        found.setdefault((kind, repo.id, repo.revision), repo)
    return sorted(found.values(), key=lambda repo: repo.kind != "model")


def _revision(look: Look, key: KeyPath) -> tuple[str | None, KeyPath]:
    """What pins it: axolotl has one key for the model and its tokenizer, and one in each data set.

    (`revision_of_model`: axolotl 0.19.0, loaders/model.py, loaders/tokenizer.py, loaders/utils.py)
    """
    if key in {("base_model",), ("base_model_config",), ("tokenizer_config",)}:
        at: KeyPath = ("revision_of_model",)
        text = look.config.get("revision_of_model")
    elif len(key) == 3 and key[-1] == "path":
        at = (*key[:-1], "revision")
        text = look.config[str(key[0])][key[1]].get("revision")
    else:
        return None, ()
    return (text, at) if isinstance(text, str) and text else (None, ())


def written(look: Look, run: Run) -> list[Repo]:
    """What is uploaded to."""
    found = []
    for key, kind in UPLOADS.items():
        text = look.config.get(key)
        # What only prepares the data writes no model, and no curves.
        if isinstance(text, str) and text and (run.trains or kind == "dataset"):
            found.append(Repo(kind, text, (key,)))
    return found


def tracked(look: Look, run: Run) -> Curves | None:
    """What Weights & Biases will be told; None when it is off, or told to keep to itself."""
    key = next((key for key in ("wandb_project", "use_wandb") if look.config.get(key)), None)
    # A key inside the config is refused by another check: there is nothing to ask for it.
    if key is None or not run.trains or look.config.get("wandb_api_key"):
        return None
    # The config's mode goes before the variable's (axolotl 0.19.0, utils/wandb_.py).
    mode = look.config.get("wandb_mode") or run.env.get("WANDB_MODE")
    if offline(mode) or str(run.env.get("WANDB_DISABLED", "")).lower() in {"1", "true"}:
        return None
    entity = look.config.get("wandb_entity")
    return Curves((key,), entity if isinstance(entity, str) and entity else None)
