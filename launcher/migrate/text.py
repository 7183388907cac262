"""An edit done to YAML text, and to nothing else in it: comments, order, quotes, spaces stay.

PyYAML says where each key and value begins and ends, and only that piece of the text is replaced.
So what the user wrote stays as it was written, and PyYAML, which axolotl reads with, is the one
judge of what it means.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from launcher.migrate.edits import Edit, Put, Remove, Rename
from launcher.recipe.keypath import KeyPath


class CannotEdit(Exception):
    """The place is written in a way that cannot be edited: behind an alias, as a merge."""


def edited(text: str, edit: Edit, prefix: KeyPath = ()) -> str:
    """The text after one edit. Raises CannotEdit.

    prefix  where in the text the config stands: ("config",) in a launch recipe that holds it
    """
    try:
        root = yaml.SafeLoader(text).get_single_node()
    except yaml.YAMLError as problem:
        raise CannotEdit(str(problem)) from None
    holder = _mapping(root, (*prefix, *edit.at[:-1]))
    name = str(edit.at[-1])
    place = _place(holder, name)
    match edit:
        case Rename(to=to) if place is not None:
            key = holder.value[place][0]
            return text[: key.start_mark.index] + to + text[key.end_mark.index :]
        case Remove() if place is not None:
            return _without(text, holder, place)
        case Remove():
            return text  # it came from an alias: whether it is gone with that is judged in the end
        case Put(value=value) if place is not None:
            return _replaced(text, holder.value[place], value)
        case Put(value=value, after=after):
            return _with(text, holder, after, f"{name}: {spelled(value)}")
    raise CannotEdit(f"{name} is not written there: it comes with an alias")


def spelled(value: Any) -> str:
    """The value on one line, as PyYAML reads it back, also inside brackets and braces."""
    style = '"' if isinstance(value, str) and "\n" in value else None
    dumped = yaml.safe_dump(
        [value],
        default_flow_style=True,
        default_style=style,
        width=10**9,
        allow_unicode=True,
        sort_keys=False,
    )
    return dumped.strip()[1:-1]


def _mapping(root: yaml.Node | None, path: Sequence[str | int]) -> yaml.MappingNode:
    node = root
    for part in path:
        if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
        elif isinstance(node, yaml.MappingNode) and (at := _place(node, str(part))) is not None:
            node = node.value[at][1]
        else:
            raise CannotEdit(f"{part} is not written where it counts")
    if not isinstance(node, yaml.MappingNode) or not node.value:
        raise CannotEdit("it is not a mapping")
    return node


def _place(holder: yaml.MappingNode, name: str) -> int | None:
    for index, (key, _) in enumerate(holder.value):
        if isinstance(key, yaml.ScalarNode) and key.value == name:
            return index
    return None


def _end(key: yaml.Node, value: yaml.Node, text: str) -> int:
    """Where the value's own text ends: without the comments and blank lines that follow it."""
    node = value
    while isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        node = last[1] if isinstance(last, tuple) else last
    end = int(node.end_mark.index)
    if end <= key.end_mark.index:
        return text.index(":", int(key.end_mark.index)) + 1  # nothing is written: null
    return len(text[:end].rstrip()) if _is_block(node) else end


def _is_block(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.style in {"|", ">"}


def _without(text: str, holder: yaml.MappingNode, place: int) -> str:
    key, value = holder.value[place]
    start, end = int(key.start_mark.index), _end(key, value, text)
    following = holder.value[place + 1][0] if place + 1 < len(holder.value) else None
    first_of_item = text[_line_start(text, start) : start].strip() != ""
    if holder.flow_style or first_of_item:
        if following is not None:
            return text[:start] + text[following.start_mark.index :]
        if not place:
            raise CannotEdit("nothing would be left of it")
        before = holder.value[place - 1]
        return text[: _end(before[0], before[1], text)] + text[end:]
    return text[: _line_start(text, start)] + text[_line_end(text, end) :]


def _replaced(text: str, pair: tuple[yaml.Node, yaml.Node], new: Any) -> str:
    key, value = pair
    end = _end(key, value, text)
    start = int(value.start_mark.index)
    empty = isinstance(value, yaml.ScalarNode) and value.start_mark.index == value.end_mark.index
    if empty:
        return f"{text[:end]} {spelled(new)}{text[end:]}"
    return text[:start] + spelled(new) + text[end:]


def _with(text: str, holder: yaml.MappingNode, after: str, line: str) -> str:
    place = _place(holder, after)
    key, value = holder.value[-1 if place is None else place]
    end = _end(key, value, text)
    if holder.flow_style:
        return f"{text[:end]}, {line}{text[end:]}"
    newline = "\r\n" if "\r\n" in text else "\n"
    cut = _line_end(text, end)
    head = text[:cut] if text[:cut].endswith("\n") else text[:cut] + newline
    return head + " " * int(key.start_mark.column) + line + newline + text[cut:]


def _line_start(text: str, index: int) -> int:
    return text.rfind("\n", 0, index) + 1


def _line_end(text: str, index: int) -> int:
    """After the line break that ends the line of `index`."""
    found = text.find("\n", index)
    return len(text) if found < 0 else found + 1
