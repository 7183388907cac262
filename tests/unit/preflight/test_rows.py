"""Data: rows that cannot be read, and rows that lack what their type needs."""

from __future__ import annotations

import gzip
import io
import json
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher import preflight, recipe
from launcher.preflight import Problem, jsonrows
from launcher.preflight.fields import check_of

Examine = Callable[[str], list[Problem]]
RECIPE = "base_model: o/m\ndatasets:\n- path: {}\n  type: alpaca\n"
ROW = {"instruction": "i", "output": "o"}


def jsonl(*rows: Any) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def found(examine: Examine, folder: Path) -> Callable[..., list[tuple[str, str]]]:
    """Where and what is wrong with a data file of this content."""

    def look(content: str | bytes, name: str = "d.jsonl") -> list[tuple[str, str]]:
        data = content.encode() if isinstance(content, str) else content
        (folder / name).write_bytes(data)
        problems = examine(RECIPE.format(json.dumps(name)))
        assert all(p.severity == "error" for p in problems)
        return [(p.where, p.message) for p in problems]

    return look


@pytest.mark.parametrize(
    "content",
    [
        jsonl(ROW, ROW),
        jsonl(ROW, ROW).rstrip("\n"),
        jsonl(ROW) + "\n  \n" + jsonl(ROW),
        jsonl(ROW, ROW).replace("\n", "\r\n"),
        "\ufeff" + jsonl(ROW),
        json.dumps([ROW, ROW]),
        json.dumps([ROW, ROW], indent=2),
        json.dumps(ROW, indent=2) + "\n" + json.dumps(ROW, indent=2),
        json.dumps(ROW) + json.dumps(ROW),
        jsonl({**ROW, "input": None, "n": float("nan")}),
    ],
)
def test_what_the_datasets_library_reads_is_taken(
    found: Callable[..., list[tuple[str, str]]], content: str
) -> None:
    assert found(content) == []


@pytest.mark.parametrize(
    ("content", "where", "says"),
    [
        ("", "d.jsonl", "is empty"),
        ("\n \n", "d.jsonl", "holds no rows"),
        ("[]", "d.jsonl", "holds no rows"),
        (jsonl(ROW) + '{"instruction": tru}\n' + jsonl(ROW), "d.jsonl row 2", "not valid JSON"),
        (jsonl(ROW) + '{"instruction":\n' + jsonl(ROW), "d.jsonl row 2", "not valid JSON"),
        (jsonl(ROW) + "\n{x\n", "d.jsonl row 2 (line 3)", "not valid JSON"),
        (jsonl(ROW, ROW) + '{"instruction": "i', "d.jsonl row 3", "not valid JSON"),
        (json.dumps(ROW) + ",\n" + jsonl(ROW), "d.jsonl row 1", "a comma follows"),
        (f"[{json.dumps(ROW)}, {{]", "d.jsonl row 2 (line 1)", "not valid JSON"),
        (f"[{json.dumps(ROW)}", "d.jsonl row 1", "the list ends"),
        (f"[{json.dumps(ROW)} {json.dumps(ROW)}]", "d.jsonl row 1", "a comma is missing"),
        (jsonl(ROW) + "[1]\n", "d.jsonl row 2", "not a JSON object"),
        (jsonl(ROW).encode() + b'{"a": "\xe9"}\n', "d.jsonl row 2", "not UTF-8"),
        (jsonl(ROW) + "[" * 100_000 + "\n", "d.jsonl row 2", "nested too deep"),
        (jsonl(ROW) + "1" * 5000 + "\n", "d.jsonl row 2", "too long"),
    ],
)
def test_what_it_cannot_read_is_refused_with_the_row(
    found: Callable[..., list[tuple[str, str]]], content: str | bytes, where: str, says: str
) -> None:
    ((place, message),) = found(content)
    assert place == where
    assert says in message


def test_what_json_says_of_a_broken_row_is_a_whole_sentence(
    found: Callable[..., list[tuple[str, str]]],
) -> None:
    ((_, message),) = found('{"instruction": "a\n"}')
    assert message.endswith("invalid control character")


def test_only_the_first_rows_at_fault_are_told(
    found: Callable[..., list[tuple[str, str]]],
) -> None:
    assert [where for where, _ in found(jsonl(*[{"a": 1}] * 50))] == [
        "d.jsonl row 1",
        "d.jsonl row 2",
        "d.jsonl row 3",
    ]


def test_packed_files_are_looked_into(found: Callable[..., list[tuple[str, str]]]) -> None:
    packed = gzip.compress(jsonl(ROW, {"a": 1}).encode())
    assert found(packed, "d.jsonl.gz")[0][0] == "d.jsonl.gz row 2"
    assert "damaged" in found(packed[:-9], "d.jsonl.gz")[-1][1]
    assert "cannot be read" in found(b"no gzip", "d.jsonl.gz")[0][1]
    assert found(b"\x28\xb5\x2f\xfd", "d.jsonl.zst") == []


@pytest.mark.parametrize("name", ["d.csv", "d.parquet", "d.arrow", "d.txt"])
def test_other_formats_are_left_alone(
    found: Callable[..., list[tuple[str, str]]], name: str
) -> None:
    assert found(b"\0\1", name) == []


def test_odd_names_stay_on_one_line(found: Callable[..., list[tuple[str, str]]]) -> None:
    ((where, _),) = found("{", "-a\n'b\" ü.jsonl")
    assert where == "-a\\n'b\" ü.jsonl row 1"


def test_a_pipe_is_not_waited_for(examine: Examine, folder: Path) -> None:
    os.mkfifo(folder / "p.jsonl")
    assert examine(RECIPE.format("p.jsonl")) == []


def test_the_files_of_a_folder_are_looked_into(examine: Examine, folder: Path) -> None:
    for name in ("d/a.jsonl", "d/x/b.jsonl", "d/.c/c.jsonl", "d/meta.json"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{")
    assert [p.where for p in examine(RECIPE.format("d"))] == [
        "d/a.jsonl row 1",
        "d/x/b.jsonl row 1",
    ]


def test_data_files_are_looked_into(examine: Examine, folder: Path) -> None:
    (folder / "d").mkdir()
    for name in ("a.jsonl", "b.jsonl"):
        (folder / "d" / name).write_text("{")
    text = RECIPE.format("d") + "  ds_type: json\n  data_files: "
    assert [p.where for p in examine(text + "[d/a.jsonl]\n")] == ["d/a.jsonl row 1"]
    assert len(examine(text + "d/*.jsonl\n")) == 2


# ── fields ────────────────────────────────────────────────────────────────────────────────────

CHAT = {"type": "chat_template"}
MESSAGE = {"role": "user", "content": "hi"}
ANSWER = {"role": "assistant", "content": "ho"}


@pytest.mark.parametrize(
    ("entry", "row", "says", "fixes"),
    [
        ({"type": "alpaca"}, {"instruction": "i"}, "no field 'output'", "'instruction'"),
        ({"type": "alpaca:chat"}, {"instruction": "i", "output": None}, "'output' is null", ""),
        ({"type": "alpaca"}, {"instruction": "i", "output": {}}, "is a mapping", ""),
        ({"type": "alpaca"}, {"instruction": 3, "output": "o"}, "is a number", ""),
        ({"type": "completion"}, {"body": "b"}, "no field 'text'", "field: NAME"),
        ({"type": "completion", "field": "b"}, {"text": "b"}, "no field 'b'", ""),
        ({"type": {"field_output": "out"}}, {"instruction": "i"}, "no field 'out'", ""),
        ({"type": {"field_instruction": "q"}}, {"output": "i"}, "no field 'q'", ""),
        ({"type": "input_output"}, {}, "no list 'segments'", ""),
        ({"type": "input_output"}, {"segments": [{"text": "t"}]}, "segment 1", ""),
        (CHAT, {"conversations": [{}]}, "no field 'messages'", "field_messages: conversations"),
        (CHAT, {"messages": {}}, "must be a list", ""),
        (CHAT, {"messages": []}, "is empty", ""),
        (CHAT, {"messages": "nope"}, "text that is not JSON", ""),
        (CHAT, {"messages": ["hi"]}, "message 1 is text, and must be a mapping", ""),
        (CHAT, {"messages": [MESSAGE, {"role": "a"}]}, "message 2 has no 'content'", ""),
        (
            CHAT,
            {"messages": [{"from": "human", "value": "hi"}]},
            "message 1 has no 'role'",
            "{role: from, content: value}",
        ),
        (
            {**CHAT, "message_property_mappings": {"role": "from"}},
            {"messages": [MESSAGE]},
            "has no 'from'",
            "",
        ),
        ({}, {"text": "t"}, "has no type", "add type:"),
    ],
)
def test_rows_that_lack_what_their_type_needs(
    entry: dict[str, Any], row: dict[str, Any], says: str, fixes: str
) -> None:
    check = check_of({}, entry, "datasets")
    assert check is not None
    complaint = check(row)
    assert complaint is not None
    assert says in complaint.message
    assert fixes in complaint.fix


@pytest.mark.parametrize(
    ("entry", "row"),
    [
        ({"type": "alpaca"}, {"instruction": "", "output": "o", "input": None}),
        ({"type": "completion", "field": "body"}, {"body": "b"}),
        ({"type": {"field_instruction": "q", "field_output": "a"}}, {"q": "1", "a": "2"}),
        ({"type": "input_output"}, {"segments": [{"label": True, "text": "t"}]}),
        (CHAT, {"messages": [MESSAGE, {"role": "assistant", "tool_calls": []}]}),
        (CHAT, {"messages": json.dumps([MESSAGE, ANSWER])}),
        ({**CHAT, "field_messages": "c"}, {"c": [MESSAGE, ANSWER]}),
        ({**CHAT, "roles_to_train": ["human"]}, {"messages": [MESSAGE]}),
        ({**CHAT, "roles": {"assistant": ["bot"]}}, {"messages": [{**ANSWER, "role": "bot"}]}),
        ({**CHAT, "message_field_training": "train"}, {"messages": [MESSAGE]}),
        (
            {**CHAT, "message_property_mappings": {"role": "from", "content": "value"}},
            {"messages": [{"from": "gpt", "value": "hi"}]},
        ),
        (
            {**CHAT, "message_field_role": "from", "message_field_content": "value"},
            {"messages": [{"from": "gpt", "value": "hi"}]},
        ),
        ({}, {"input_ids": [], "attention_mask": [], "labels": []}),
    ],
)
def test_rows_that_have_it(entry: dict[str, Any], row: dict[str, Any]) -> None:
    check = check_of({}, entry, "datasets")
    assert check is not None
    assert check(row) is None


def test_odd_conversations_are_a_warning_with_their_first_row(
    examine: Examine, folder: Path
) -> None:
    strange = {"messages": [{"role": "bot", "content": "x"}, ANSWER]}
    good, mute = {"messages": [MESSAGE, ANSWER]}, {"messages": [MESSAGE]}
    (folder / "d.jsonl").write_text(jsonl(good, mute, mute, strange, strange))
    text = RECIPE.format("d.jsonl").replace("alpaca", "chat_template")
    found = examine(text)
    assert [(p.severity, p.where) for p in found] == [
        ("warning", "d.jsonl row 2"),
        ("warning", "d.jsonl row 4"),
    ]
    assert "assistant" in found[0].message
    assert "'bot'" in found[1].message
    assert examine(text + "train_on_inputs: true\n") == found[1:]


def test_what_was_not_looked_into_is_told(folder: Path) -> None:
    (folder / "p.parquet").write_bytes(b"PAR1")
    (folder / "d.jsonl").write_text(jsonl(ROW))
    text = "base_model: o/m\ndatasets:\n- path: p.parquet\n- path: d.jsonl\n- path: o/s\n"
    (folder / "r.yml").write_text(text)
    assert preflight.not_checked(recipe.load("r.yml", cwd=folder)) == [
        "p.parquet (only JSON is read)",
        "hub data set o/s",
    ]


def test_what_is_not_known_is_not_checked() -> None:
    assert check_of({}, {"type": "mine.load"}, "datasets") is None
    assert check_of({"rl": "dpo"}, {"type": "chat_template"}, "datasets") is None


# ── the reader ────────────────────────────────────────────────────────────────────────────────

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text('ab\n"é'), inner, max_size=3)
    ),
    max_leaves=8,
)
rows_of_json = st.lists(st.dictionaries(st.text("ab"), values, max_size=3), min_size=1, max_size=6)


@settings(deadline=None, database=None, max_examples=60)
@given(rows_of_json, st.sampled_from([None, 1]), st.booleans(), st.integers(1, 9), st.booleans())
def test_every_row_is_read_however_the_file_is_cut_in_pieces(
    rows: list[dict[str, Any]], indent: int | None, array: bool, piece: int, ascii_only: bool
) -> None:
    def dump(value: Any) -> str:
        return json.dumps(value, indent=indent, ensure_ascii=ascii_only)

    text = dump(rows) if array else "\n".join(dump(row) for row in rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jsonrows, "_PIECE", piece)
        read = list(jsonrows._Reader(io.BytesIO(text.encode())).rows())
    assert [row.value for row in read] == rows
    assert [row.number for row in read] == list(range(1, len(rows) + 1))


@settings(deadline=None, database=None)
@given(st.binary(max_size=60), st.integers(1, 9))
def test_any_bytes_are_rows_or_one_broken_row(content: bytes, piece: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jsonrows, "_PIECE", piece)
        try:
            list(jsonrows._Reader(io.BytesIO(content)).rows())
        except jsonrows.BrokenRow as broken:
            assert broken.number >= 1  # noqa: PT017
            assert broken.line >= 1  # noqa: PT017


@pytest.mark.parametrize("array", [False, True])
def test_a_large_file_is_not_held_in_memory(tmp_path: Path, array: bool) -> None:
    row = json.dumps({"instruction": "x" * 1000, "output": "y"})
    path = tmp_path / "large.json"
    path.write_text(f"[{','.join([row] * 40_000)}]" if array else f"{row}\n" * 40_000)
    assert path.stat().st_size > 35 << 20
    tracemalloc.start()
    try:
        assert sum(1 for _ in jsonrows.rows(path)) == 40_000
        assert tracemalloc.get_traced_memory()[1] < 10 << 20
    finally:
        tracemalloc.stop()
