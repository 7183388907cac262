"""What a row became as text under the old sharegpt, and becomes under its chat template.

Only prompts that are known to the letter are rendered: ChatML, Vicuna 1.1 and Alpaca. For any other
the answer is that it is not known here, rather than a guess.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.migrate.datasets import entries
from launcher.migrate.sharegpt import (
    ALPACA_SYSTEM,
    DEFAULT,
    SPELLED_OUT,
    VICUNA_SYSTEM,
    conversation_of,
    is_sharegpt,
)
from launcher.preflight.jsonrows import BrokenRow, is_packed_unread, rows
from launcher.recipe import keypath
from launcher.recipe.overrides import format_axolotl_takes
from launcher.recipe.references import exists, here

_OLD_CHATML_SYSTEM = "You are a helpful assistant."
_MOST = 1200
"""Characters of a prompt that are shown: two screens of a long conversation help nobody."""

Turns = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Compared:
    """The first row of one data set, before and after.

    at      the data set
    note    what the change comes to, or why it cannot be shown
    before  the text the old axolotl trained on; empty when it is not known
    after   the text that 0.19 trains on; empty when it is not known
    """

    at: str
    note: str
    before: str = ""
    after: str = ""

    @property
    def same(self) -> bool:
        """Whether both are known, and equal."""
        return bool(self.before) and self.before == self.after


def compare(old: dict[str, Any], new: dict[str, Any], base: Path) -> list[Compared]:
    """One answer for every data set that was of type sharegpt and no longer is."""
    found = []
    for at, entry in entries(old):
        now = keypath.get(new, at)
        if is_sharegpt(entry) and isinstance(now, dict) and not is_sharegpt(now):
            found.append(_one(keypath.spell(at), conversation_of(old, entry), now, new, base))
    return found


def _one(at: str, was: str, entry: dict[str, Any], config: dict[str, Any], base: Path) -> Compared:
    said = entry.get("chat_template") or config.get("chat_template")
    template = str(said or "the tokenizer's own")
    if template == "jinja":
        template = "chat_template_jinja"
    spelled_out = was in SPELLED_OUT and template == "chat_template_jinja"
    if not spelled_out and (was, template) != ("chatml", "chatml"):
        return Compared(
            at,
            f"the prompt was that of conversation {was} and is now that of {template}: what "
            "differs is not known here; compare after `ftlaunch preprocess`",
        )
    turns = _first_turns(entry, base)
    system = config.get("default_system_message")
    note = _note(was, system)
    if turns is None:
        return Compared(at, f"{note}; its first row is not on this machine, or not JSON")
    if spelled_out:
        text = vicuna(turns) if was == DEFAULT else alpaca(turns)
        return Compared(at, note, text, text)
    default = str(system or _OLD_CHATML_SYSTEM)
    return Compared(at, note, chatml(turns, default), chatml(turns, ""))


def _note(was: str, system: object) -> str:
    if was in SPELLED_OUT:
        whose = (
            "Vicuna 1.1, which sharegpt had by default" if was == DEFAULT else f"FastChat's {was}"
        )
        return (
            f"the template spells out the prompt of {whose}; "
            "what trains is the same text, and tokens at its joints may be cut otherwise"
        )
    said = f"{system or _OLD_CHATML_SYSTEM!r}"
    return (
        f"sharegpt put the system message {said} before a row that has none, and the template "
        "chatml does not; add it to the rows if the model is to go on seeing it"
    )


def chatml(turns: Turns, default_system: str) -> str:
    """ChatML; `default_system` stands first where a row has no system message of its own."""
    first = [] if not default_system or turns[0][0] == "system" else [("system", default_system)]
    parts = [f"<|im_start|>{role}\n{said}<|im_end|>\n" for role, said in (*first, *turns)]
    return "".join(parts)


def vicuna(turns: Turns) -> str:
    """The prompt of Vicuna 1.1 as FastChat makes it."""
    own = turns[0][1] if turns[0][0] == "system" else VICUNA_SYSTEM
    names = {"user": ("USER", " "), "assistant": ("ASSISTANT", "</s>")}
    told = [(*names[role], said) for role, said in turns if role in names]
    return f"{own} " + "".join(f"{name}: {said}{end}" for name, end, said in told)


def alpaca(turns: Turns) -> str:
    """The prompt of Alpaca as FastChat makes it."""
    own = turns[0][1] if turns[0][0] == "system" else ALPACA_SYSTEM
    names = {"user": ("### Instruction", "\n\n"), "assistant": ("### Response", "</s>")}
    told = [(*names[role], said) for role, said in turns if role in names]
    return f"{own}\n\n" + "".join(f"{name}: {said}{end}" for name, end, said in told)


def shortened(text: str) -> str:
    """The text, cut where it gets long."""
    more = len(text) - _MOST
    return text if more <= 0 else f"{text[:_MOST]}… and {more:,} characters more"


def _first_turns(entry: Mapping[str, Any], base: Path) -> Turns | None:
    """Role and text of each message of the first row; None when it cannot be read here."""
    path = here(str(entry.get("path") or ""), base)
    kind = entry.get("ds_type") or format_axolotl_takes(path.name)
    if not exists(path) or not path.is_file() or is_packed_unread(path) or kind != "json":
        return None
    try:
        row = next(rows(path), None)
    except (BrokenRow, OSError):
        return None
    value = None if row is None else row.value
    messages = value.get(entry.get("field_messages")) if isinstance(value, dict) else None
    if not isinstance(messages, list) or not messages:
        return None
    mapped = entry["message_property_mappings"]
    names = {"human": "user", "gpt": "assistant"}
    for role, sources in (entry.get("roles") or {}).items():
        names.update(dict.fromkeys(sources, role))
    turns = []
    for message in messages:
        if not isinstance(message, dict):
            return None
        role, said = message.get(mapped["role"]), message.get(mapped["content"])
        if not isinstance(role, str) or not isinstance(said, str):
            return None
        turns.append((names.get(role, role), said))
    return turns
