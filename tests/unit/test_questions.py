"""A file of prompts is looked at before anything is rented for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from backends.errors import BadInput, Refused
from launcher import questions


def test_rows_that_cannot_be_asked_are_named_and_the_rest_travel(tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    file.write_bytes(b'{"prompt": "fine"}\nnot json\n{"prompt": " "}\n')
    asked = questions.read(file)
    assert asked.content == file.read_bytes()
    assert [why.split(" is ")[0].split(" has ")[0] for why in asked.bad] == ["line 2", "line 3"]


@pytest.mark.parametrize("content", [b"not json\n", b"[]", b'{"question": "x"}\n{"prompt": 5}\n'])
def test_a_file_without_one_good_row_is_refused_and_says_its_line(
    tmp_path: Path, content: bytes
) -> None:
    file = tmp_path / "p.jsonl"
    file.write_bytes(content)
    with pytest.raises(Refused, match=r"no row that can be asked: line 1 "):
        questions.read(file)


@pytest.mark.parametrize("content", [b"", b" \n\n", None])
def test_a_file_that_is_empty_or_not_there_is_bad_input(
    tmp_path: Path, content: bytes | None
) -> None:
    file = tmp_path / "p.jsonl"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(BadInput, match=r"p\.jsonl"):
        questions.read(file)
