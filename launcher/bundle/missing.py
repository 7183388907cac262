"""The sentence for a path in a recipe that leads nowhere, or everywhere, and the way out."""

from __future__ import annotations

from pathlib import PurePosixPath

from launcher import bundled
from launcher.recipe import Recipe
from launcher.recipe.references import Kind, Reference
from launcher.wording import closest, quoted, shown

_IN_THE_CONTAINER = "deepspeed_configs/"


def explain(recipe: Recipe, reference: Reference) -> tuple[str, str]:
    """What is wrong with a missing reference (without its place), and what to do."""
    text = shown(reference.text)
    if reference.kind is Kind.DEEPSPEED and _IN_THE_CONTAINER in reference.text:
        return (
            f"{text} is a path inside axolotl's own container, and there is no such file here",
            _deepspeed_way_out(reference.text),
        )
    if reference.kind is Kind.TEMPLATE:
        start = f"relative paths start from {shown(recipe.base_dir)}"
        return (
            f"there is no chat template file {text}",
            f"{start}; axolotl would silently take the path itself as the template",
        )
    near = _neighbour(recipe, reference.text)
    meant = f"did you mean {quoted(near)}? " if near else ""
    return (
        f"there is no {reference.kind} at {text}",
        f"{meant}relative paths start from {shown(recipe.base_dir)}",
    )


def too_vast(reference: Reference) -> tuple[str, str]:
    """The same for the whole disk, or the folder that all of the user's lie in."""
    return (
        f"{shown(reference.text)} is the whole disk or your home folder, which would all travel",
        f"name the folder or file of the {reference.kind} itself",
    )


def _deepspeed_way_out(text: str) -> str:
    name = PurePosixPath(text).name
    ours = sorted(bundled.configs_dir().rglob("*.json"))
    found = next((path for path in ours if path.name == name), None)
    if found is not None:
        return f"use the copy that comes with ftlaunch: --set deepspeed={shown(found)}"
    return (
        "put the JSON file beside the recipe and name it there "
        '(`"$(ftlaunch env path)"/bin/axolotl fetch deepspeed_configs` downloads the usual ones)'
    )


def _neighbour(recipe: Recipe, text: str) -> str | None:
    """The entry of the same folder with nearly that name."""
    path = recipe.base_dir / text
    try:
        names = [entry.name for entry in path.parent.iterdir()]
    except (OSError, ValueError):
        return None
    found = closest(path.name, names)
    return str(PurePosixPath(text).parent / found) if found else None
