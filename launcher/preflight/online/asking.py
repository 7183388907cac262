"""Many questions at once, with one end to all waiting."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

_AT_ONCE = 16
"""More would be rude to a service, and no recipe names as many things."""


class Silent(Exception):
    """A service gave no answer that says anything about the question; `str` of it says why."""


@dataclass(frozen=True)
class Question:
    """One question.

    about  what is asked about, for people
    host   who is asked
    put    asks, and returns the answer; raises Silent
    """

    about: str
    host: str
    put: Callable[[], object]


@dataclass(frozen=True)
class Unanswered:
    """There was no answer; `why` goes on after the name of who was asked."""

    why: str


def ask(questions: Mapping[object, Question], *, within_s: float) -> dict[object, object]:
    """The answer to each, or `Unanswered`; returns in time, whatever hangs.

    The threads are daemons: a name server that never answers cannot be interrupted from here, and
    must not hold the process.
    """
    waiting: queue.SimpleQueue[object] = queue.SimpleQueue()
    answered: queue.SimpleQueue[tuple[object, object]] = queue.SimpleQueue()
    for key in questions:
        waiting.put(key)

    over = threading.Event()

    def work() -> None:
        while not over.is_set():
            try:
                key = waiting.get_nowait()
            except queue.Empty:
                return
            answered.put((key, _answer(questions[key])))

    for _ in range(min(_AT_ONCE, len(questions))):
        threading.Thread(target=work, daemon=True).start()
    end = time.monotonic() + within_s
    answers: dict[object, object] = {}
    while len(answers) < len(questions):
        try:
            key, answer = answered.get(timeout=max(0.0, end - time.monotonic()))
        except queue.Empty:
            break
        answers[key] = answer
    over.set()
    late = Unanswered(f"did not answer within {within_s:g} s")
    return {key: answers.get(key, late) for key in questions}


def _answer(question: Question) -> object:
    try:
        return question.put()
    except Silent as silent:
        return Unanswered(str(silent))
    except Exception as error:  # noqa: BLE001 - to ask is a service: it may never stop a launch
        return Unanswered(f"could not be asked ({type(error).__name__})")
