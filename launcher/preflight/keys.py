"""Keys that axolotl does not read: it drops them without a word, so they are looked for here.

`axolotl_keys.json` is made by `scripts/list_axolotl_keys.py` from the pinned axolotl.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import Any

from launcher.preflight.problem import DATASET_KEYS, Look, Problem
from launcher.preflight.retired import (
    DEPRECATED,
    REFUSED,
    REFUSED_WHEN_SAID,
    RETIRED,
    RETIRED_IN_DATASETS,
)
from launcher.recipe import keypath
from launcher.recipe.keypath import KeyPath
from launcher.recipe.model import KEYS as LAUNCH_KEYS
from launcher.wording import closest, did_you_mean, quoted

_OURS = "axolotl.integrations."
_HOLDERS = ("_", ".", "x-")
"""How people begin the names of keys that only hold YAML anchors."""


@cache
def known() -> dict[str, Any]:
    """The content of `axolotl_keys.json`: `axolotl`, `keys`, `plugins`, `templates`."""
    text = (files("launcher.preflight") / "axolotl_keys.json").read_text("utf-8")
    content: dict[str, Any] = json.loads(text)
    return content


def unknown_keys(look: Look) -> Iterator[Problem]:
    """Keys at the top that nothing reads."""
    read = {**known()["keys"]}
    for plugin in _loaded(look):
        read.update(known()["plugins"].get(plugin, {}))
    for key, value in look.config.items():
        if key in read:
            yield from _inside(look, (key,), value, read[key])
        elif not key.startswith(_HOLDERS) and not (key in RETIRED and value is None):
            yield _top(look, key, value, list(read))


def refused_keys(look: Look) -> Iterator[Problem]:
    """Keys that axolotl still knows, to say that it takes them no longer, or soon will not."""
    for key, instead in DEPRECATED.items():
        value = look.config.get(key)
        if (key in REFUSED and value) or (key in REFUSED_WHEN_SAID and value is not None):
            yield look.error((key,), f"axolotl refuses {key!r}: it is gone", _instead(instead))
        elif key not in REFUSED and key not in REFUSED_WHEN_SAID and value is not None:
            yield look.warning(
                (key,),
                f"{key!r} has another name by now; axolotl still reads it",
                _instead(instead),
            )


def unknown_template(look: Look) -> Iterator[Problem]:
    """A `chat_template` that names none of axolotl's."""
    names = known()["templates"]
    holders: list[tuple[KeyPath, dict[str, Any]]] = [((), look.config), *look.datasets()]
    for at, holder in holders:
        name = holder.get("chat_template")
        if not isinstance(name, str) or name in names:
            continue
        if name.removeprefix("tokenizer_default_fallback_") not in names:
            near = did_you_mean(name, names)
            way = "a template of your own goes in chat_template_jinja"
            yield look.error(
                (*at, "chat_template"),
                f"axolotl has no chat template {quoted(name)}",
                f"{near} {way}".strip(),
            )


def _loaded(look: Look) -> list[str]:
    """The packages of axolotl's own plugins that the recipe loads."""
    plugins = look.config.get("plugins")
    names = [name for name in plugins if isinstance(name, str)] if isinstance(plugins, list) else []
    return [name.removeprefix(_OURS).split(".")[0] for name in names if name.startswith(_OURS)]


def has_user_plugins(look: Look) -> bool:
    """Whether plugins that are not axolotl's are loaded: they may read keys of their own."""
    plugins = look.config.get("plugins")
    return isinstance(plugins, list) and any(
        isinstance(name, str) and not name.startswith("axolotl.") for name in plugins
    )


def _top(look: Look, key: str, value: Any, read: list[str]) -> Problem:
    at = (key,)
    if key in LAUNCH_KEYS:
        return look.error(
            at,
            f"{key!r} is a launch key, and this is a plain axolotl config",
            "put the launch keys in a recipe file of their own, with `config:` naming this one, "
            "or move axolotl's keys below `config:`",
        )
    if key in RETIRED:
        if key in REFUSED and value:
            return look.error(at, f"axolotl refuses {key!r}: it is gone", _instead(RETIRED[key]))
        return look.warning(at, f"axolotl no longer reads {key!r}", _instead(RETIRED[key]))
    owners = [name for name, keys in known()["plugins"].items() if key in keys]
    if owners:
        return look.warning(
            at,
            f"{key!r} is read only by a plugin that the recipe does not load",
            f"add the plugin of {_OURS}{owners[0]} to plugins, or remove the key",
        )
    message = f"axolotl {known()['axolotl']} has no key {quoted(key)}"
    fix = did_you_mean(key, read) or "remove it: axolotl would ignore it without a word"
    if value is None or (has_user_plugins(look) and closest(key, read) is None):
        return look.warning(at, message, fix)
    return look.error(at, message, fix)


def _instead(replacement: str) -> str:
    return f"use {replacement}" if replacement else "remove it"


def _inside(look: Look, at: KeyPath, value: Any, read: dict[str, Any] | None) -> Iterator[Problem]:
    """Unknown keys in the mapping, or the list of mappings, at `at`; `read` None: any are taken."""
    if read is None:
        return
    if isinstance(value, list):
        for index, entry in enumerate(value):
            yield from _inside(look, (*at, index), entry, read)
    if not isinstance(value, dict):
        return
    retired = RETIRED_IN_DATASETS if at[0] in DATASET_KEYS and len(at) == 2 else {}
    for name, below in value.items():
        key = str(name)
        plain = key.removeprefix("fsdp_") if at == ("fsdp_config",) else key
        if plain in read:
            yield from _inside(look, (*at, key), below, read[plain])
        elif key in retired:
            if below is None:
                continue
            message = f"axolotl no longer reads {key!r} in {keypath.spell(at)}"
            yield look.warning((*at, key), message, _instead(retired[key]))
        else:
            make = look.warning if below is None else look.error
            yield make(
                (*at, key),
                f"axolotl {known()['axolotl']} has no key {quoted(key)} in {keypath.spell(at)}",
                did_you_mean(key, read) or f"it reads {', '.join(sorted(read)[:12])}, …",
            )
