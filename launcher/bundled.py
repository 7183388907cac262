"""Where the recipes and configs that come with ftlaunch lie."""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).resolve().parent


def recipes_dir() -> Path:
    """The folder of the bundled recipes: in the wheel, or at the top of a source checkout."""
    return _folder("recipes")


def configs_dir() -> Path:
    """The folder of the bundled axolotl configs and their JSON files."""
    return _folder("configs")


def recipe_names() -> list[str]:
    """The names that stand for bundled recipes, sorted."""
    return _names(recipes_dir())


def config_names() -> list[str]:
    """The names that stand for bundled configs, sorted."""
    return _names(configs_dir())


def find(folder: Path, name: str) -> Path | None:
    """The YAML file called `name`, with or without its extension, in a bundled folder."""
    if name.removesuffix(".yml").removesuffix(".yaml") not in _names(folder):
        return None
    candidates = (folder / name, folder / f"{name}.yml", folder / f"{name}.yaml")
    return next((path for path in candidates if path.is_file()), None)


def _folder(name: str) -> Path:
    inside = _HERE / "bundled" / name
    return inside if inside.is_dir() else _HERE.parent / name


def _names(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    return sorted({path.stem for path in folder.iterdir() if path.suffix in {".yml", ".yaml"}})
