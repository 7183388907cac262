"""Which fields a row needs, by the data set's type; as axolotl's own strategies read them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal


@dataclass(frozen=True)
class Complaint:
    """What a row lacks, and what would mend it; or, as a warning, what is odd about it."""

    message: str
    fix: str = ""
    severity: Literal["error", "warning"] = "error"


RowCheck = Callable[[Mapping[str, Any]], Complaint | None]

_TEXTS: dict[str, tuple[str, ...]] = {
    "alpaca": ("instruction", "output"),
    "alpaca_chat.load_qa": ("question", "answer"),
    "alpaca_w_system.load": ("instruction", "output", "system"),
    "alpaca_w_system.load_open_orca": ("question", "response", "system_prompt"),
    "context_qa": ("article", "question", "answer"),
    "gpteacher": ("instruction", "response"),
    "jeopardy": ("question", "category", "answer"),
    "oasst": ("INSTRUCTION", "RESPONSE"),
    "summarizetldr": ("article", "summary"),
}
_TOKENS = ("input_ids", "attention_mask", "labels")


def check_of(config: Mapping[str, Any], entry: Mapping[str, Any], key: str) -> RowCheck | None:
    """The check for one data set's rows; None when nothing is known about its type.

    key  the list the data set stands in: `datasets`, `test_datasets`, `pretraining_dataset`
    """
    if config.get("rl") or config.get("reward_model") or config.get("process_reward_model"):
        return None
    kind = entry.get("type")
    if key == "pretraining_dataset":
        column = str(entry.get("text_column") or "text")
        return _texts((column,), column) if kind is None or kind == "pretrain" else None
    if isinstance(kind, dict):
        fields = {
            name: str(kind.get(f"field_{name}") or name) for name in ("instruction", "output")
        }
        return _texts(tuple(fields.values()), "the type's field_instruction and field_output")
    if kind is None:
        return _tokenized
    base = str(kind).split(":")[0]
    if base == "completion":
        field = str(entry.get("field") or "text")
        return _texts((field,), "field")
    if base == "input_output":
        return _segments
    if base == "chat_template":
        template = entry.get("chat_template") or config.get("chat_template")
        return _Conversation(
            entry, every_turn=bool(config.get("train_on_inputs")), template=str(template or "")
        )
    return _texts(_TEXTS[base], "") if base in _TEXTS else None


_ANSWERS = {"output", "response", "answer", "summary", "RESPONSE"}
"""What is learnt of a row: nothing can be learnt where it is empty."""


def _blank(name: str) -> Complaint:
    return Complaint(
        f"its field {name!r} is empty, so nothing is learnt from it", "remove the row", "warning"
    )


def _texts(names: tuple[str, ...], said_by: str) -> RowCheck:
    answers = _ANSWERS if len(names) > 1 else set(names)
    if "field_output" in said_by:
        answers = {names[-1]}

    def check(row: Mapping[str, Any]) -> Complaint | None:
        for name in names:
            value = row.get(name)
            if name in row and value is None:
                return Complaint(f"its field {name!r} is null, and must be text")
            if value is None:
                return Complaint(f"it has no field {name!r}", _rename(row, said_by))
            if not isinstance(value, str):
                return Complaint(f"its field {name!r} is {_kind(value)}, and must be text")
        blank = next((name for name in names if name in answers and not row[name].strip()), None)
        return None if blank is None else _blank(blank)

    return check


def _rename(row: Mapping[str, Any], said_by: str) -> str:
    has = f"it has {_listed(row)}"
    if said_by == "field":
        return f"{has}; name the one that holds the text: field: NAME"
    return f"{has}; choose a type that reads these, or map them with type: {{field_instruction: …}}"


def _listed(row: Mapping[str, Any]) -> str:
    names = [repr(name) for name in list(row)[:8]]
    return ", ".join(names) + (", …" if len(row) > 8 else "") if names else "no fields"


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "true or false"
    names = {dict: "a mapping", list: "a list", str: "text", int: "a number", float: "a number"}
    return names.get(type(value), "null")


def _tokenized(row: Mapping[str, Any]) -> Complaint | None:
    if all(name in row for name in _TOKENS):
        return None
    return Complaint(
        "the data set has no type, and its rows are not tokenized",
        f"add type: to the data set; its rows have {_listed(row)}",
    )


def _segments(row: Mapping[str, Any]) -> Complaint | None:
    segments = row.get("segments")
    if not isinstance(segments, list):
        return Complaint("it has no list 'segments'", f"it has {_listed(row)}")
    for number, segment in enumerate(segments, 1):
        if not isinstance(segment, dict) or not {"label", "text"} <= segment.keys():
            return Complaint(f"its segment {number} is not a mapping with label and text")
    return None


_ROLES = {"human": "user", "gpt": "assistant"}
"""The names axolotl reads as others when the data set has no `roles`."""

_STRICT = {
    *("aya", "cohere", "gemma", "gemma3", "gemma3n", "mistral_v1", "mistral_v2v3"),
    *("mistral_v3_tekken", "pixtral"),
}
"""Templates of axolotl that raise an error where user and assistant do not take turns."""

_KNOWN_ROLES = _ROLES.keys() | {
    *("user", "assistant", "system", "developer", "tool", "function", "ipython", "model")
}


def _inverted(roles: dict[Any, Any]) -> dict[str, str]:
    pairs = ((sources, name) for name, sources in roles.items() if isinstance(sources, list))
    return {str(source): str(name) for sources, name in pairs for source in sources}


class _Conversation:
    """Rows of `type: chat_template`: a list of messages, each with a role and something said."""

    def __init__(
        self, entry: Mapping[str, Any], *, every_turn: bool = False, template: str = ""
    ) -> None:
        self._template = template
        mappings = entry.get("message_property_mappings")
        mapped = mappings if isinstance(mappings, dict) else {}
        self._field = str(entry.get("field_messages") or "messages")
        self._role = str(mapped.get("role") or entry.get("message_field_role") or "role")
        self._content = str(
            mapped.get("content") or entry.get("message_field_content") or "content"
        )
        roles = entry.get("roles")
        self._usual = not isinstance(roles, dict)
        self._roles = _ROLES if not isinstance(roles, dict) else _inverted(roles)
        trained = entry.get("roles_to_train")
        names = trained if isinstance(trained, list) else ["assistant"]
        self._trained = {self._roles.get(str(name), str(name)) for name in names}
        marked = entry.get("message_field_training") or entry.get("message_field_training_detail")
        self._any_turn = bool(every_turn or marked)

    def __call__(self, row: Mapping[str, Any]) -> Complaint | None:
        messages = row.get(self._field)
        if isinstance(messages, str):
            try:
                messages = json.loads(messages)
            except (ValueError, RecursionError):
                return Complaint(f"its field {self._field!r} is text that is not JSON")
        if messages is None:
            return Complaint(f"it has no field {self._field!r}", self._other_field(row))
        if not isinstance(messages, list):
            return Complaint(f"its field {self._field!r} is {_kind(messages)}, and must be a list")
        if not messages:
            return Complaint(f"its list {self._field!r} is empty")
        for number, message in enumerate(messages, 1):
            if complaint := self._message(number, message):
                return complaint
        return self._oddity(messages)

    def _oddity(self, messages: list[dict[str, Any]]) -> Complaint | None:
        """What axolotl takes without a word, and nobody can have meant."""
        names = [str(message[self._role]) for message in messages]
        strange = [name for name in names if self._usual and name not in _KNOWN_ROLES]
        if strange:
            return Complaint(
                f"its role {strange[0]!r} is none of the usual ones",
                f"say what it stands for: roles: {{user: [{strange[0]}], assistant: [assistant]}}",
                "warning",
            )
        meant = [self._roles.get(name, name) for name in names]
        if complaint := self._in_a_row(meant):
            return complaint
        if self._any_turn or self._trained & set(meant):
            return self._unsaid(names, messages)
        wanted = " or ".join(sorted(self._trained)) or "any role"
        return Complaint(
            f"no message of it is of {wanted}, so nothing is learnt from it",
            "remove the row, or say which turns count: roles_to_train: [assistant]",
            "warning",
        )

    def _in_a_row(self, names: list[str]) -> Complaint | None:
        """Turns that do not alternate, in a conversation of two: some templates fail at it."""
        told = [name for name in names if name not in {"system", "developer"}]
        if not told or set(told) - {"user", "assistant"}:
            return None
        twice = next((a for a, b in pairwise(told) if a == b), None)
        if twice is None and (told[0] == "user" or len(told) == 1):
            return None
        what = (
            f"two messages of {twice} follow each other in it"
            if twice
            else ("it begins with the assistant, and not with the user")
        )
        if self._template in _STRICT:
            return Complaint(
                f"{what}: the template {self._template} fails at that", "join them, or add a turn"
            )
        return Complaint(
            f"{what}: some templates fail at that, and none expects it",
            "join them, or add the turn that is missing",
            "warning",
        )

    def _unsaid(self, names: list[str], messages: list[dict[str, Any]]) -> Complaint | None:
        """Nothing but white space in all that is to be learnt."""
        told = [
            message.get(self._content)
            for name, message in zip(names, messages, strict=True)
            if self._any_turn or self._roles.get(name, name) in self._trained
            if not message.keys() - {self._role, self._content}
        ]
        if told and all(isinstance(text, str) and not text.strip() for text in told):
            return _blank(self._content)
        return None

    def _message(self, number: int, message: Any) -> Complaint | None:
        if not isinstance(message, dict):
            return Complaint(f"its message {number} is {_kind(message)}, and must be a mapping")
        if message.get(self._role) is None:
            return Complaint(f"its message {number} has no {self._role!r}", _mapping_for(message))
        if message.get(self._content) is None and not message.keys() - {self._role, self._content}:
            return Complaint(f"its message {number} has no {self._content!r}")
        return None

    def _other_field(self, row: Mapping[str, Any]) -> str:
        lists = [name for name, value in row.items() if isinstance(value, list) and value]
        found = [name for name in lists if isinstance(row[name][0], dict)]
        if found:
            return f"say which one holds the messages: field_messages: {found[0]}"
        return f"it has {_listed(row)}; choose a type that reads these"


def _mapping_for(message: Mapping[str, Any]) -> str:
    for role, content in (("from", "value"), ("role", "content"), ("speaker", "text")):
        if role in message and content in message:
            return f"add message_property_mappings: {{role: {role}, content: {content}}}"
    return f"it has {_listed(message)}; add message_property_mappings"
