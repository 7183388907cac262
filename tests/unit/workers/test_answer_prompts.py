"""The worker's book-keeping, with a speaker that needs no model."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from launcher.workers import answer_prompts


class Echo:
    """Answers in capitals; its tokens are code points. Notes every batch."""

    longest: int | None = None

    def __init__(self) -> None:
        self.batches: list[list[str]] = []

    def encode(self, prompt: str) -> list[int]:
        if prompt == "unrenderable":
            raise ValueError("roles must alternate")
        return [ord(letter) for letter in prompt]

    def speak(self, prompts: Sequence[list[int]]) -> list[str]:
        said = ["".join(map(chr, tokens)) for tokens in prompts]
        self.batches.append(said)
        return [text.upper() for text in said]


class Small(Echo):
    """Runs out of memory with more than `room` prompts at once, and always with a big one."""

    room = 2

    def speak(self, prompts: Sequence[list[int]]) -> list[str]:
        if len(prompts) > self.room or any(len(tokens) > 50 for tokens in prompts):
            self.batches.append([])
            raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB\nmore lines")
        return super().speak(prompts)


class Desk:
    """A folder with prompts and answers."""

    def __init__(self, folder: Path) -> None:
        self.prompts = folder / "in.jsonl"
        self.answers = folder / "out.jsonl"
        self.loads = 0

    def ask(self, speaker: Echo, *more: str) -> int:
        def load(_options: Namespace) -> answer_prompts.Speaker:
            self.loads += 1
            return speaker

        files = [f"--prompts={self.prompts}", f"--answers={self.answers}"]
        return answer_prompts.main(["--config=c.yml", "--base", *files, *more], load)

    def rows(self, *rows: Any) -> None:
        lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
        self.prompts.write_bytes(b"".join(line + b"\n" for line in lines))

    def said(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.answers.read_bytes().splitlines()]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    folder = tmp_path / "odd 'name\n\"é"
    folder.mkdir()
    return Desk(folder)


def test_one_line_out_for_each_line_in_in_order_with_its_own_keys(desk: Desk) -> None:
    prompts = [{"prompt": "x" * size, "id": size} for size in (5, 1, 9, 3, 7, 2)]
    desk.rows(*prompts)
    assert desk.ask(Echo(), "--batch-size=2") == 0
    assert desk.said() == [row | {"answer": str(row["prompt"]).upper()} for row in prompts]


def test_batches_hold_prompts_of_like_length(desk: Desk) -> None:
    desk.rows(*({"prompt": "x" * size} for size in (1, 9, 2, 8)))
    speaker = Echo()
    desk.ask(speaker, "--batch-size=2")
    assert [[len(text) for text in batch] for batch in speaker.batches] == [[9, 8], [2, 1]]


def test_a_bad_row_gets_an_error_on_its_own_line_and_the_rest_go_on(desk: Desk) -> None:
    desk.rows(
        b'{"prompt": "broken',
        b"",
        ["a list"],
        {"question": "no prompt", "id": 4},
        {"prompt": 5},
        {"prompt": "  "},
        b'{"prompt": "\xff"}',
        b"[" * 100_000,
        {"prompt": "unrenderable"},
        {"prompt": "fine", "answer": "old", "error": "old"},
    )
    assert desk.ask(Echo()) == 0
    said = desk.said()
    assert [("error" in row, "answer" in row) for row in said] == [(True, False)] * 9 + [
        (False, True)
    ]
    assert said[0]["error"] == "line 1 is not JSON: Unterminated string starting at"
    assert said[1]["error"] == "line 2 is empty"
    assert said[3] == {
        "question": "no prompt",
        "id": 4,
        "error": "line 4 has no text under 'prompt'",
    }
    assert "roles must alternate" in said[8]["error"]
    assert said[9] == {"prompt": "fine", "answer": "FINE"}


def test_a_prompt_beyond_what_the_model_reads_is_not_asked(desk: Desk) -> None:
    speaker = Echo()
    speaker.longest = 10
    desk.rows({"prompt": "x" * 10}, {"prompt": "x" * 9})
    desk.ask(speaker)
    assert desk.said()[0]["error"] == "the prompt has 10 tokens, the model reads fewer than 10"
    assert "answer" in desk.said()[1]


def test_out_of_memory_is_tried_again_alone_and_then_with_smaller_batches(desk: Desk) -> None:
    desk.rows(*({"prompt": "x" * size} for size in (1, 2, 3, 4, 60, 5, 6, 7)))
    speaker = Small()
    assert desk.ask(speaker, "--batch-size=4") == 0
    said = desk.said()
    assert "out of memory" in said[4]["error"]
    assert "\n" not in said[4]["error"]
    assert all("answer" in row for row in said[:4] + said[5:])
    assert max(map(len, speaker.batches)) == Small.room


def test_nothing_answered_is_a_failure(desk: Desk) -> None:
    desk.rows(b"broken", {"prompt": "x" * 60})
    assert desk.ask(Small()) == 1
    assert all("error" in row for row in desk.said())


def test_progress_is_printed_for_each_batch(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.rows(*({"prompt": "x"} for _ in range(5)))
    desk.ask(Echo(), "--batch-size=2")
    printed = capsys.readouterr().out.splitlines()
    assert [line for line in printed if line.startswith("answered")] == [
        "answered 2/5",
        "answered 4/5",
        "answered 5/5",
    ]


def test_progress_tells_rows_without_an_answer_apart(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.rows(b"broken", {"prompt": "x"})
    desk.ask(Echo())
    assert "answered 2/2, 1 of them with an error" in capsys.readouterr().out.splitlines()


class Killed(BaseException):
    """What no handler catches."""


class Dies(Echo):
    """Answers two batches and is killed in the third."""

    def speak(self, prompts: Sequence[list[int]]) -> list[str]:
        if len(self.batches) == 2:
            raise Killed
        return super().speak(prompts)


def test_goes_on_after_the_last_whole_line(desk: Desk) -> None:
    desk.rows(*({"prompt": f"{number:02}"} for number in range(7)))
    with pytest.raises(Killed):
        desk.ask(Dies(), "--batch-size=2")
    assert len(desk.said()) == 4  # what was answered is on disk already
    with desk.answers.open("ab") as file:
        file.write(b'{"prompt": "04", "ans')  # a kill in the midst of a write
    speaker = Echo()
    assert desk.ask(speaker, "--batch-size=2") == 0
    assert [row["answer"] for row in desk.said()] == [f"{number:02}" for number in range(7)]
    assert sum(map(len, speaker.batches)) == 3


def test_nothing_left_to_do_loads_no_model(desk: Desk) -> None:
    desk.rows({"prompt": "a"})
    desk.ask(Echo())
    before = desk.answers.read_bytes()
    assert desk.ask(Echo()) == 0
    assert (desk.loads, desk.answers.read_bytes()) == (1, before)


@pytest.mark.parametrize("there", [b'{"prompt": "b", "answer": "B"}\n', b"notes\n"])
def test_answers_to_other_prompts_are_left_alone(
    desk: Desk, there: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.rows({"prompt": "a"})
    desk.answers.write_bytes(there)
    assert desk.ask(Echo()) == 2
    assert desk.answers.read_bytes() == there
    assert "other prompts (line 1)" in capsys.readouterr().err


def test_prompts_that_are_not_there(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    assert desk.ask(Echo()) == 2
    assert "No such file" in capsys.readouterr().err
    assert not desk.answers.exists()


def test_text_of_all_kinds_survives(desk: Desk) -> None:
    desk.rows(
        b'\xef\xbb\xbf{"prompt": "\xc3\xa9\xe2\x80\xa8 \\n"}', b'{"prompt": "\\ud800", "k": 1}'
    )
    desk.prompts.write_bytes(desk.prompts.read_bytes().removesuffix(b"\n"))
    assert desk.ask(Echo()) == 0
    assert desk.said() == [
        {"prompt": "é\u2028 \n", "answer": "É\u2028 \n"},
        {"prompt": "\ud800", "k": 1, "answer": "\ud800"},
    ]


def test_memory_holds_a_window_not_the_file(desk: Desk) -> None:
    desk.rows(*({"prompt": "x"} for _ in range(100)))
    seen: list[int] = []

    class Watching(Echo):
        def speak(self, prompts: Sequence[list[int]]) -> list[str]:
            written = desk.answers.read_bytes().count(b"\n") if desk.answers.exists() else 0
            seen.append(written)
            return super().speak(prompts)

    desk.ask(Watching(), "--batch-size=1")
    assert seen == list(range(100))  # each answer is on disk before the next is computed


@pytest.mark.parametrize(
    "argv",
    [
        ["--config=c"],
        ["--config=c", "--base", "--adapter=a", "--prompts=p", "--answers=a"],
        ["--config=c", "--base", "--prompts=p", "--answers=a", "--batch-size=0"],
    ],
)
def test_a_command_line_that_cannot_be(argv: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        answer_prompts.main(argv)
    assert ended.value.code == 2
