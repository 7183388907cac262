"""From parsed YAML to a `LaunchRecipe`, with errors that name file, line and the likely key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from backends.errors import Refused
from launcher.recipe import keypath
from launcher.recipe.model import KEYS, Budget, Hardware, LaunchRecipe, Profile, Steps
from launcher.recipe.yamltext import Document
from launcher.wording import did_you_mean, quoted

_PARTS: Mapping[str, type[BaseModel]] = {"hardware": Hardware, "budget": Budget, "steps": Steps}

_PHRASES = {
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "int_type": "must be a whole number",
    "dict_type": "must be a mapping of keys to values",
    "model_type": "must be a mapping of keys to values",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
}


def is_launch(config: Mapping[Any, Any]) -> bool:
    """Whether a file is a launch recipe; otherwise it is a plain axolotl config.

    The rule: a file with `base_model` at its top is a plain config, whatever else it holds, since
    every axolotl config needs that key and no launch recipe has it. Any other file is a launch
    recipe if it holds one of the launch keys (none of which is a key of axolotl).
    """
    return "base_model" not in config and not KEYS.isdisjoint(config)


def mapping(document: Document) -> dict[str, Any]:
    """The document's top as a mapping with text keys. Raises Refused when it is anything else."""
    value = document.value
    if value is None:
        raise Refused(
            f"{document.label} is empty: it holds no keys",
            hint="see a whole one with: ftlaunch recipes show quickstart",
        )
    if not isinstance(value, dict):
        kind = "a list" if isinstance(value, list) else "a single value"
        raise Refused(
            f"{document.label}:1: a recipe is a mapping of keys to values, and this is {kind}",
            hint="write `key: value` lines, without a dash before them",
        )
    require_text_keys(document)
    return value


def require_text_keys(document: Document, path: Sequence[str | int] = ()) -> None:
    """Refuse a mapping with a key that YAML takes for something else than text."""
    if bent := document.bent_key(path):
        where, spelling = bent
        raise Refused(
            f"{where}: YAML does not take the key {quoted(spelling)} as text",
            hint="put it in quotes: words such as on, yes and no are read as true or false",
        )


def launch(document: Document) -> LaunchRecipe:
    """The launch recipe that the document holds. Raises Refused, the first mistake first."""
    raw = dict(mapping(document))
    if isinstance(raw.get("env"), dict):
        raw["env"] = _as_written(raw["env"], document)
    for part in ("hardware", "budget", "steps", "set", "env", "models", "profiles"):
        if part in raw and raw[part] is None:
            del raw[part]  # a heading with nothing below it says nothing
    try:
        return LaunchRecipe.model_validate(raw)
    except ValidationError as error:
        raise _refused(error, document) from None


def _as_written(env: Mapping[Any, Any], document: Document) -> dict[Any, Any]:
    """Environment values as text: a number as it is written, and nothing that YAML bends."""
    values: dict[Any, Any] = {}
    for name, value in env.items():
        written = document.written(["env", name])
        plain = isinstance(value, int | float) and not isinstance(value, bool)
        if not isinstance(value, str) and not (plain and written == str(value)):
            raise Refused(
                f"{document.where(['env', name])}: the value of {name} is not text",
                hint="put it in quotes, so that YAML does not turn it into something else",
            )
        values[name] = value if isinstance(value, str) else written
    return values


def _refused(error: ValidationError, document: Document) -> Refused:
    found = sorted(
        ((document.line(_place(each["loc"])), each) for each in error.errors()),
        key=lambda pair: pair[0],
    )
    sentences = [f"{document.label}:{line}: {_sentence(each)}" for line, each in found]
    hints = [_hint(each) for _, each in found[:1]]
    hints += [f"also {sentence}" for sentence in dict.fromkeys(sentences[1:])]
    return Refused(sentences[0], hint="; ".join(filter(None, hints)))


def _place(loc: Sequence[str | int]) -> tuple[str | int, ...]:
    """The location without the names of a union's members, which the file has no keys for."""
    return tuple(part for part in loc if part not in {"str", "dict[str,any]", "[key]"})


def _sentence(each: Any) -> str:
    place = _place(each["loc"])
    key = keypath.spell(place)
    if each["type"] == "extra_forbidden":
        inside = f" in {keypath.spell(place[:-1])}" if len(place) > 1 else ""
        return f"there is no launch key {str(place[-1])!r}{inside}"
    if each["type"] == "value_error":
        return f"{key}: {each['ctx']['error']}"
    if each["type"] == "greater_than_equal":
        return f"{key} must be at least {each['ctx']['ge']}"
    return f"{key} {_PHRASES.get(each['type'], 'is not of the right kind')}"


def _part(above: Sequence[str | int]) -> type[BaseModel] | None:
    """The model of the mapping that stands there; None for the recipe itself."""
    if above[:1] == ("profiles",):
        return _PARTS.get(str(above[2])) if len(above) > 2 else Profile
    return _PARTS.get(str(above[0])) if above else None


def _hint(each: Any) -> str:
    if each["type"] != "extra_forbidden":
        return ""
    place = _place(each["loc"])
    part = _part(place[:-1])
    names = KEYS if part is None else {f.alias or n for n, f in part.model_fields.items()}
    near = did_you_mean(str(place[-1]), names)
    listed = f"the keys are {', '.join(sorted(names))}"
    elsewhere = "" if len(place) > 1 or near else "; keys of axolotl go under set or config"
    return f"{near} {listed}{elsewhere}".strip()
