"""`type: sharegpt`, which axolotl dropped in 2024, as the `chat_template` that does the same.

Read in axolotl's own sharegpt strategy of 2024 (`prompt_strategies/sharegpt.py`, `prompters.py`)
and in FastChat's conversation templates, which it took its prompts from:
- the prompt was that of `conversation`, else of `chat_template: chatml`, else Vicuna 1.1;
- the messages were in `conversations`, as `from` and `value`, said by `human` and `gpt`, or by
  what `field_human`, `field_model` and `roles` named.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from launcher.migrate.datasets import entries
from launcher.migrate.edits import Edit, Put, Remove, Step
from launcher.recipe.keypath import KeyPath

Config = dict[str, Any]

DEFAULT = "vicuna_v1.1"
"""The conversation of an entry that named none."""

VICUNA_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
VICUNA_JINJA = (
    "{{ bos_token }}"
    "{% if messages[0]['role'] == 'system' %}{{ messages[0]['content'] }}"
    f"{{% else %}}{VICUNA_SYSTEM}{{% endif %}}{{{{ ' ' }}}}"
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ 'USER: ' + message['content'] + ' ' }}"
    "{% elif message['role'] == 'assistant' %}{{ 'ASSISTANT: ' + message['content'] + '</s>' }}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
"""The prompt of Vicuna 1.1, which axolotl has no template for, in our own words."""

ALPACA_SYSTEM = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request."
)
ALPACA_JINJA = (
    "{{ bos_token }}"
    "{% if messages[0]['role'] == 'system' %}{{ messages[0]['content'] }}"
    f"{{% else %}}{ALPACA_SYSTEM}{{% endif %}}{{{{ '\\n\\n' }}}}"
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ '### Instruction: ' + message['content'] + '\\n\\n' }}"
    "{% elif message['role'] == 'assistant' %}"
    "{{ '### Response: ' + message['content'] + '</s>' }}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '### Response:' }}{% endif %}"
)
"""FastChat's `alpaca`, in our own words. Axolotl's template of that name ends its headings with a
line break, where this one has a space."""

SPELLED_OUT = {DEFAULT: VICUNA_JINJA, "alpaca": ALPACA_JINJA}
"""Conversations for which axolotl has no template, and the one that says the same."""

_TEMPLATES = {
    "chatml": "chatml",
    "gemma": "gemma",
    "llama3": "llama3",
    "llama-3": "llama3",
    "metharme": "metharme",
    "mistral": "mistral_v1",
}


@dataclass(frozen=True)
class _Shape:
    """Where the rows of one variant hold their messages, and who says them."""

    field: str = "conversations"
    role: str = "from"
    content: str = "value"
    human: str = "human"
    model: str = "gpt"


_SHAPES = {
    "": _Shape(),
    "load": _Shape(),
    "chat": _Shape(),
    "load_role": _Shape(role="role"),
    "load_guanaco": _Shape(role="role", content="text", human="prompter", model="assistant"),
    "load_ultrachat": _Shape("messages", "role", "content", "user", "assistant"),
}
_USUAL = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant"}
_OLD_KEYS = ("conversation", "field_human", "field_model", "strict", "roles")


def is_sharegpt(entry: dict[str, Any]) -> bool:
    """Whether the entry is of the old type, in any of its spellings."""
    kind = entry.get("type")
    return isinstance(kind, str) and kind.startswith("sharegpt")


def conversation_of(config: Config, entry: dict[str, Any]) -> str:
    """The conversation template the old axolotl used for the entry."""
    top = "chatml" if config.get("chat_template") == "chatml" else DEFAULT
    return str(entry.get("conversation") or top)


def sharegpt(config: Config) -> Iterator[Step]:
    """Every entry of the old type; and the chat template, where all of them had the same."""
    old = [(at, entry) for at, entry in entries(config) if is_sharegpt(entry)]
    if not old:
        return
    wanted = {conversation_of(config, entry) for _, entry in old}
    others = [e for _, e in entries(config) if e.get("type") == "chat_template"]
    at_the_top = config.get("chat_template") is None and len(wanted) == 1 and not others
    for at, entry in old:
        name = conversation_of(config, entry)
        yield _entry(at, entry, {} if at_the_top else _template(config, name))
    if at_the_top and (keys := _template({}, wanted.pop())):
        after = next(str(at[0]) for at, _ in old)
        puts = [Put((key,), value, after=after) for key, value in reversed(keys.items())]
        says = f"the template of the conversations is now chat_template: {keys['chat_template']}"
        yield Step(old[0][0], says, tuple(puts))


def _template(config: Config, conversation: str) -> dict[str, str]:
    """The keys that say which template; none when the config says it already, or nobody knows."""
    name = _TEMPLATES.get(conversation)
    if conversation in SPELLED_OUT:
        return {"chat_template": "jinja", "chat_template_jinja": SPELLED_OUT[conversation]}
    if name is None or config.get("chat_template") == name:
        return {}
    return {"chat_template": name}


def _entry(at: KeyPath, entry: dict[str, Any], template: dict[str, str]) -> Step:
    kind = str(entry["type"]).replace("sharegpt_simple", "sharegpt")
    variant = kind.removeprefix("sharegpt").lstrip(".:").split(":")[0]
    shape = _SHAPES.get(variant)
    if shape is None:
        return Step(
            (*at, "type"),
            f"type: {entry['type']} has no counterpart: bring the rows into the form "
            "{messages: [{role: user, content: …}, …]}, and use type: chat_template",
        )
    new: dict[str, Any] = {
        "field_messages": entry.get("field_messages") or shape.field,
        "message_property_mappings": {"role": shape.role, "content": shape.content},
        **template,
    }
    if roles := _roles(entry, shape):
        new["roles"] = roles
    edits: list[Edit] = [Put((*at, "type"), "chat_template")]
    gone = [key for key in _OLD_KEYS if key in entry and key not in new]
    edits += [Put((*at, key), value, after="type") for key, value in reversed(new.items())]
    edits += [Remove((*at, key)) for key in gone]
    return Step((*at, "type"), f"type: {entry['type']} is now type: chat_template", tuple(edits))


def _roles(entry: dict[str, Any], shape: _Shape) -> dict[str, list[str]]:
    """Who counts as user and as assistant; empty where axolotl knows the names by itself."""
    human = [str(entry.get("field_human") or shape.human)]
    model = [str(entry.get("field_model") or shape.model)]
    said = entry.get("roles")
    if isinstance(said, dict):
        human += [str(name) for name in said.get("input") or said.get("user") or []]
        model += [str(name) for name in said.get("output") or said.get("assistant") or []]
    usual = all(_USUAL.get(n) == "user" for n in human) and all(
        _USUAL.get(n) == "assistant" for n in model
    )
    if usual:
        return {}
    return {"user": _once(human), "assistant": _once(model), "system": ["system"]}


def _once(names: list[str]) -> list[str]:
    return list(dict.fromkeys(names))
