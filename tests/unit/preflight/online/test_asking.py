"""All waiting has one end, whatever hangs; and nothing that hangs keeps the program from ending."""

from __future__ import annotations

import subprocess
import sys
import threading
from functools import partial

from launcher.preflight.online.asking import Question, Silent, Unanswered, ask


def silent() -> object:
    raise Silent("is closed")


def broken() -> object:
    raise ZeroDivisionError


def test_what_hangs_takes_nothing_from_what_answers() -> None:
    never = threading.Event()
    questions: dict[object, Question] = {
        "hangs": Question("a", "h", never.wait),
        "answers": Question("b", "h", lambda: 42),
        "is silent": Question("c", "h", silent),
        "breaks": Question("d", "h", broken),
    }
    answers = ask(questions, within_s=2)
    never.set()
    assert answers == {
        "hangs": Unanswered("did not answer within 2 s"),
        "answers": 42,
        "is silent": Unanswered("is closed"),
        "breaks": Unanswered("could not be asked (ZeroDivisionError)"),
    }


def test_many_questions_are_all_answered() -> None:
    questions: dict[object, Question] = {
        number: Question("", "h", partial(int, number)) for number in range(100)
    }
    assert ask(questions, within_s=60) == {number: number for number in range(100)}
    assert ask({}, within_s=0) == {}


def test_a_name_server_that_never_answers_holds_no_program() -> None:
    program = (
        "import time\n"
        "from launcher.preflight.online.asking import Question, ask\n"
        "print(*ask({1: Question('', 'h', lambda: time.sleep(1e6))}, within_s=0.1).values())\n"
    )
    argv = [sys.executable, "-c", program]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=200)
    assert "did not answer within 0.1 s" in done.stdout
