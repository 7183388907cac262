"""Values of the wrong kind: text where a number belongs, a list where one word does.

What axolotl takes is in `axolotl_keys.json`, read from its own models. It is pydantic's lax mode:
"16" and 16.0 pass as a whole number, "yes" and 1 as true, and a number never as text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from launcher.preflight.figures import number
from launcher.preflight.keys import known
from launcher.preflight.problem import Look, Problem
from launcher.recipe.keypath import KeyPath, spell
from launcher.wording import did_you_mean, shown

_ELSEWHERE = {"base_model", "chat_template", "datasets", "test_datasets", "pretraining_dataset"}
"""Looked at by checks of their own."""

_WHOLE = re.compile(r"\s*[+-]?\d+(\.0+)?\s*")
_SWITCHES = {"true", "false", "t", "f", "yes", "no", "y", "n", "on", "off", "1", "0"}
_NAMES = {
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "map": "a mapping",
}
_EXAMPLES = {"bool": "true", "int": "1", "float": "0.1", "str": '"…"', "map": "{…: …}"}


def wrong_kinds(look: Look) -> Iterator[Problem]:
    """Values that axolotl's models refuse, and true or false where a number is meant."""
    kinds = known()["types"]
    for key, value in look.config.items():
        a_path = key in {"fsdp_config", "accelerator_config"} and isinstance(value, str)
        if key in kinds and key not in _ELSEWHERE and not a_path:
            yield from _one(look, (key,), value, kinds[key])
    if look.config.get("rl"):
        return  # the entries are of other models then
    for at, entry in look.datasets():
        for key, value in entry.items():
            if at[0] != "pretraining_dataset" and key in kinds["datasets[]"] and key != "path":
                yield from _one(look, (*at, key), value, kinds["datasets[]"][key])


def required_keys(look: Look) -> Iterator[Problem]:
    """Keys without which axolotl refuses a config; base_model is looked at by `essentials`."""
    for key in known()["required"]:
        if key != "base_model" and key not in look.config:
            yield look.error(
                (),
                f"the key {key} is missing, and axolotl refuses a config without it",
                f"say it, for example for LoRA: {key}: 0.0002",
            )


def _one(look: Look, at: KeyPath, value: Any, kinds: Sequence[Any]) -> Iterator[Problem]:
    message = f"{spell(at)} is {_written(value)}, and must be {_phrase(kinds)}"
    if not _takes(value, kinds):
        yield look.error(at, f"{message}: axolotl refuses it", _way_out(at, value, kinds))
    elif isinstance(value, bool) and not _takes(value, [k for k in kinds if k not in _NUMBERS]):
        yield look.error(at, f"{message}: axolotl would take it as {int(value)}", _fix(at, kinds))


_NUMBERS = ("int", "float")


def _takes(value: Any, kinds: Sequence[Any]) -> bool:
    return any(_fits(value, kind) for kind in kinds)


def _fits(value: Any, kind: Any) -> bool:
    if isinstance(kind, dict):
        if "list" in kind:
            return isinstance(value, list) and all(_takes(each, kind["list"]) for each in value)
        return type(value) is type(kind["is"]) and bool(value == kind["is"])
    match kind:
        case "any":
            return True
        case "null":
            return value is None
        case "bool":
            text = isinstance(value, str) and value.lower() in _SWITCHES
            return text or (isinstance(value, bool | int | float) and value in {0, 1})
        case "int":
            return bool(_WHOLE.fullmatch(value)) if isinstance(value, str) else _is_whole(value)
        case "float":
            return isinstance(value, bool) or number(value) is not None
        case "str":
            return isinstance(value, str)
        case _:
            return isinstance(value, dict)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) or (isinstance(value, float) and value.is_integer())


def _way_out(at: KeyPath, value: Any, kinds: Sequence[Any]) -> str:
    words = _words(kinds)
    if at == ("resume_from_checkpoint",) and value is True:
        return "to go on from the newest: auto_resume_from_checkpoints: true"
    if isinstance(value, bool) and "str" in kinds:
        said = "on" if value else "no"
        return f'put it in quotes, or YAML reads {said} as {_written(value)}: {at[-1]}: "{said}"'
    if isinstance(value, str) and words and (near := did_you_mean(value, words)):
        return near
    if isinstance(value, int | float) and "str" in kinds:
        return f'put it in quotes if it is meant: {at[-1]}: "{value}"'
    if value is None:
        return "give it a value, or remove the key"
    return _fix(at, kinds)


def _fix(at: KeyPath, kinds: Sequence[Any]) -> str:
    if words := _words(kinds):
        return f"for example: {at[-1]}: {words[0]}"
    plain = [_EXAMPLES[kind] for kind in kinds if isinstance(kind, str) and kind in _EXAMPLES]
    return f"for example: {at[-1]}: {plain[0] if plain else '[…]'}"


def _words(kinds: Sequence[Any]) -> list[str]:
    return [str(kind["is"]) for kind in kinds if isinstance(kind, dict) and "is" in kind]


def _phrase(kinds: Sequence[Any]) -> str:
    said = [_NAMES[kind] for kind in kinds if isinstance(kind, str) and kind in _NAMES]
    if words := _words(kinds):
        some = ", ".join(words[:8]) + (", …" if len(words) > 8 else "")
        said.append(f"one of {some}" if len(words) > 1 else words[0])
    for kind in kinds:
        if isinstance(kind, dict) and "list" in kind:
            inside = _NAMES.get(str(kind["list"][0]), "")
            said.append(f"a list of {_PLURALS.get(inside, 'entries')}")
    return " or ".join(dict.fromkeys(said))


_PLURALS = {"text": "texts", "a whole number": "whole numbers", "a number": "numbers"}


def _written(value: Any) -> str:
    """The value as a person wrote it; a long one only by its kind."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "empty"
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    text = shown(str(value))
    return f"{text[:40]}…" if len(text) > 40 else repr(value) if isinstance(value, str) else text
