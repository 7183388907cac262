"""A file of prompts, looked at before a machine is taken for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from backends.errors import BadInput, Refused
from launcher.workers.answer_prompts import read_row

_EXAMPLE = 'write rows like {"prompt": "…"}'


@dataclass(frozen=True)
class Questions:
    """The file as it travels.

    bad  why rows cannot be asked, each naming its line; they get no answer, and the rest do
    """

    content: bytes
    bad: tuple[str, ...] = ()


def read(path: Path) -> Questions:
    """Read a file of prompts.

    Raises BadInput when it cannot be read or is empty, Refused when not one row can be asked.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from error
    if not content.strip():
        raise BadInput(f"{path} is empty", hint=_EXAMPLE)
    lines = content.removesuffix(b"\n").split(b"\n")
    rows = [read_row(line, number) for number, line in enumerate(lines, 1)]
    bad = tuple(row.error for row in rows if row.error)
    if len(bad) == len(rows):
        raise Refused(f"{path} has no row that can be asked: {bad[0]}", hint=_EXAMPLE)
    return Questions(content, bad)
