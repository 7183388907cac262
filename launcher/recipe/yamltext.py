"""YAML text as data, with the line of every key, and with one sentence for all that can be wrong.

Meaning is PyYAML's `safe_load`, because that is how axolotl reads its config: `2e-4` is text, `yes`
is true, `010` is 8. Two things PyYAML lets pass are refused: a key given twice (it silently takes
the last), and aliases that unfold into more than anybody can have meant.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from backends.errors import Refused

_MOST_NODES = 200_000
"""A recipe has hundreds; an alias bomb of a few lines unfolds into billions."""


@dataclass(frozen=True)
class Document:
    """What a YAML text says.

    label  the text's name in messages: a path or a URL
    value  as PyYAML builds it
    """

    label: str
    value: Any
    _root: yaml.Node | None

    def line(self, path: Sequence[str | int]) -> int:
        """The line (from 1) of the key or entry at `path`, or of the nearest thing above it."""
        node, line = self._root, 1
        for part in path:
            step = _below(node, part)
            if step is None:
                break
            key, node = step
            line = key.start_mark.line + 1
        return line

    def where(self, path: Sequence[str | int]) -> str:
        """`file:line` of `path`."""
        return f"{self.label}:{self.line(path)}"

    def bent_key(self, path: Sequence[str | int] = ()) -> tuple[str, str] | None:
        """`file:line` and spelling of a key, in the mapping at `path`, that YAML takes for no text.

        None when all are text.
        """
        node = self._root
        for part in path:
            step = _below(node, part)
            node = step[1] if step else None
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if key.tag != "tag:yaml.org,2002:str":
                spelling = key.value if isinstance(key, yaml.ScalarNode) else "a list or mapping"
                return f"{self.label}:{key.start_mark.line + 1}", spelling
        return None

    def written(self, path: Sequence[str | int]) -> str | None:
        """The scalar at `path` as it is written, before YAML gives it a type; None if not one."""
        node = self._root
        for part in path:
            step = _below(node, part)
            if step is None:
                return None
            node = step[1]
        return node.value if isinstance(node, yaml.ScalarNode) else None


def parse(text: str, *, label: str) -> Document:
    """Read one YAML document. Raises Refused, naming line and column, for what cannot be read."""
    root: yaml.Node | None = None
    try:
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
        if root is None:
            return Document(label, None, None)
        _refuse_unfolding(root, label)
        _refuse_doubles(root, label)
        return Document(label, loader.construct_document(root), root)
    except yaml.MarkedYAMLError as error:
        raise _marked(error, label) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise Refused(
            f"{label}:{line}: the character {_code(error.character)} is not allowed in YAML",
            hint="save the file as plain UTF-8 text",
        ) from None
    except RecursionError:
        raise Refused(f"{label}: it is nested too deep to be read") from None
    except (ValueError, OverflowError) as error:
        raise Refused(
            f"{label}:{_culprit(root)}: a value cannot be read: {error}",
            hint="put it in quotes if it is meant as text",
        ) from None


def scalar(text: str) -> Any:
    """The value PyYAML gives to `text` standing alone after a key, without quotes."""
    loader = yaml.SafeLoader("")
    tag = loader.resolve(yaml.ScalarNode, text.strip(), (True, False))  # type: ignore[no-untyped-call]
    if tag == "tag:yaml.org,2002:str":
        return text
    try:
        return loader.construct_object(yaml.ScalarNode(tag, text.strip()), deep=True)
    except (ValueError, OverflowError, yaml.YAMLError):
        return text


def _below(node: yaml.Node | None, part: str | int) -> tuple[yaml.Node, yaml.Node] | None:
    """The node that marks where `part` begins, and the node of its value."""
    if isinstance(node, yaml.MappingNode):
        # From the end: what a merge key (`<<`) brings in stands first and is overridden.
        for key, value in reversed(node.value):
            if isinstance(key, yaml.ScalarNode) and key.value == str(part):
                return key, value
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part], node.value[part]
    return None


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [each for pair in node.value for each in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _refuse_unfolding(root: yaml.Node, label: str) -> None:
    """Refuse aliases that refer to themselves, or that unfold beyond `_MOST_NODES`."""
    sizes: dict[int, int] = {}
    open_nodes: set[int] = set()

    def size(node: yaml.Node) -> int:
        known = sizes.get(id(node))
        if known is not None:
            return known
        if id(node) in open_nodes:
            line = node.start_mark.line + 1
            raise Refused(f"{label}:{line}: an alias refers to what it is a part of")
        open_nodes.add(id(node))
        total = 1 + sum(size(child) for child in _children(node))
        open_nodes.remove(id(node))
        sizes[id(node)] = total
        return total

    if size(root) > _MOST_NODES:
        raise Refused(f"{label}: it unfolds into more than {_MOST_NODES:,} values")


def _refuse_doubles(root: yaml.Node, label: str) -> None:
    for mapping in _mappings(root):
        seen: dict[tuple[str, str], int] = {}
        for key, _ in mapping.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag.endswith(":merge"):
                continue
            line = key.start_mark.line + 1
            if (key.tag, key.value) in seen:
                raise Refused(
                    f"{label}:{line}: the key {key.value!r} is there twice "
                    f"(first on line {seen[key.tag, key.value]})",
                    hint="keep one of the two: YAML would silently take the last",
                )
            seen[key.tag, key.value] = line


def _mappings(root: yaml.Node) -> Iterator[yaml.MappingNode]:
    seen: set[int] = set()
    todo = [root]
    while todo:
        node = todo.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            yield node
        todo += reversed(_children(node))


_BEGUN = ("while scanning a quoted", "while parsing a flow", "while scanning a simple key")
"""What PyYAML calls a piece that has no end: where it began is the place to look, not where the
text ends."""


def _marked(error: yaml.MarkedYAMLError, label: str) -> Refused:
    mark = error.problem_mark or error.context_mark
    if error.context_mark is not None and f"{error.context}".startswith(_BEGUN):
        mark = error.context_mark
    place = f"{label}:{mark.line + 1}:{mark.column + 1}" if mark else label
    what = error.problem or error.context or "it cannot be read"
    if "expected a single document" in f"{error.context}":
        return Refused(
            f"{place}: a second YAML document begins here, and a recipe is one",
            hint="remove the line '---' and what follows it, or make it a file of its own",
        )
    hint = ""
    if "\\t" in what:
        hint = "indent with spaces: YAML does not allow tabs"
    elif "mapping values are not allowed" in what:
        hint = "put the value in quotes if it holds ': ', and check the indentation"
    return Refused(f"{place}: this is not valid YAML: {what}", hint=hint)


def _culprit(root: yaml.Node | None) -> int:
    """The line of the scalar that PyYAML recognises but cannot build (a date of the 45th)."""
    loader = yaml.SafeLoader("")
    todo = [] if root is None else [root]
    while todo:
        node = todo.pop()
        if isinstance(node, yaml.ScalarNode):
            try:
                loader.construct_object(node)
            except (ValueError, OverflowError, yaml.YAMLError):
                return node.start_mark.line + 1
        todo += _children(node)
    return 1


def _code(character: int | str | bytes) -> str:
    number = character if isinstance(character, int) else ord(character)
    return f"U+{number:04X}"
