"""The answer out of what axolotl's inference really printed (`printed/`), and out of worse."""

from __future__ import annotations

from pathlib import Path

import pytest

from backends.errors import Failed
from launcher.answers import extract_answer

PRINTED = Path(__file__).parent / "printed"
RULE = "=" * 80
ASKS = f"{RULE}\nGive me an instruction (Ctrl + D to submit): \n{RULE}\n"


def printed(text: str) -> str:
    """What the command prints around a text of prompt and answer."""
    return f"loading\n{ASKS}{RULE}\n{text}\n{RULE}\n{text}\n{ASKS}"


@pytest.mark.parametrize(
    ("file", "prompt", "answer"),
    [
        (
            "chat.txt",
            "What is the capital of France?\nAnswer in one short sentence.\n",
            "The capital of France is Paris.",
        ),
        ("alpaca.txt", "Name a colour.", "The specified color is 'Blue'."),
        ("plain.txt", "Answer: what is 2 plus 2?", ""),
    ],
)
def test_a_real_answer(file: str, prompt: str, answer: str) -> None:
    assert extract_answer((PRINTED / file).read_text(), prompt) == answer


@pytest.mark.parametrize("file", ["chat.txt", "alpaca.txt"])
def test_a_real_answer_without_knowing_the_prompt(file: str) -> None:
    text = (PRINTED / file).read_text()
    assert extract_answer(text) in {
        "The capital of France is Paris.",
        "The specified color is 'Blue'.",
    }


def test_log_lines_that_lost_their_trailing_blanks() -> None:
    text = (PRINTED / "chat.txt").read_text()
    shorn = "\n".join(line.rstrip() for line in text.splitlines())
    assert extract_answer(shorn) == "The capital of France is Paris."


CHATML = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n{}<|im_end|>"


@pytest.mark.parametrize(
    "answer",
    [
        "two\n\nlines",
        f"a rule\n{RULE}\nand more",
        "<|im_start|>assistant\n said of itself",
        "Give me an instruction (Ctrl + D to submit): no",
        "[/INST] is a marker of others",
        'é "quoted" {"json": [1]}',
        "hi",
    ],
)
def test_answers_that_look_like_what_is_around_them(answer: str) -> None:
    assert extract_answer(printed(CHATML.format("hi", answer)), "hi") == answer


def test_a_prompt_that_quotes_a_template() -> None:
    prompt = "what does <|im_end|>\n<|im_start|>assistant\n mean?"
    assert extract_answer(printed(CHATML.format(prompt, "a turn")), prompt) == "a turn"


def test_a_prompt_that_occurs_in_the_system_message_too() -> None:
    text = "<|im_start|>system\nYou think.<|im_end|>\n" + CHATML.format("think", "done")
    assert extract_answer(printed(text), "think") == "done"


def test_a_template_that_nobody_listed_leaves_its_marks_but_not_the_prompt() -> None:
    assert extract_answer(printed("Q: how?\nA: so"), "how?") == "A: so"


def test_an_empty_thought_is_not_part_of_the_answer_but_a_thought_is() -> None:
    empty = printed(CHATML.format("q", "<think>\n\n</think>\n\nyes"))
    full = printed(CHATML.format("q", "<think>\nhm\n</think>\n\nyes"))
    assert extract_answer(empty, "q") == "yes"
    assert extract_answer(full, "q") == "<think>\nhm\n</think>\n\nyes"


def test_a_warning_in_the_midst_of_the_streamed_text() -> None:
    text = CHATML.format("q", "yes")
    log = f"{ASKS}{RULE}\na warning on stderr\n{text}\n{RULE}\n{text}\n{ASKS}"
    assert extract_answer(log, "q") == "yes"


@pytest.mark.parametrize("log", ["", "Traceback (most recent call last):", ASKS])
def test_no_answer_is_an_error_with_a_way_on(log: str) -> None:
    with pytest.raises(Failed, match="no answer") as caught:
        extract_answer(log)
    assert caught.value.hint
