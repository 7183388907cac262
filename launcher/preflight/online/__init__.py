"""What only the Hugging Face hub and Weights & Biases know, asked before anything is spent.

`would_ask` says what a recipe asks about, without a network; `examine` asks it, all at once, and
for a few seconds at most. A service that is silent, slow or ill is never an error: what it did not
answer is told as not checked.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from launcher.preflight import tokens
from launcher.preflight.online import reading, subjects, tracking, writing
from launcher.preflight.online.asking import Question, Unanswered, ask
from launcher.preflight.online.judging import refused
from launcher.preflight.online.run import Run, host_of, keys_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from launcher.preflight.online.subjects import Repo
    from launcher.preflight.problem import Look, Problem

__all__ = ["PATIENCE_S", "Answered", "Run", "examine", "would_ask"]

PATIENCE_S = 5.0
"""Seconds in which everything is asked, whatever hangs."""


@dataclass(frozen=True)
class Answered:
    """What the services said.

    problems     errors and warnings
    not_checked  what nobody answered, in sentences, each with why
    outdated     warnings of the offline checks that the answers take the place of
    """

    problems: tuple[Problem, ...] = ()
    not_checked: tuple[str, ...] = ()
    outdated: frozenset[Problem] = frozenset()

    def with_known(self, known: Sequence[Problem]) -> list[Problem]:
        """What was found without a network, less what is outdated, and what was found with one."""
        found = [*(one for one in known if one not in self.outdated), *self.problems]
        return sorted(found, key=lambda problem: problem.severity != "error")


def would_ask(look: Look, run: Run) -> str | None:
    """What `examine` would ask about, in a few words; None when there is nothing to ask."""
    asked = []
    if not run.offline and (repos := [*subjects.read(look), *subjects.written(look, run)]):
        asked.append(f"{_names(repos)} on the hub")
    if (curves := subjects.tracked(look, run)) is not None:
        asked.append("the key of Weights & Biases" if curves.entity is None else "wandb_entity")
    return " and ".join(asked) or None


def examine(look: Look, run: Run, *, patience_s: float = PATIENCE_S) -> Answered:
    """Ask about everything that the recipe reads from the hub, writes to it, and tracks at W&B.

    A recipe of local things asks nothing. Raises nothing: who does not answer is told of.
    """
    read, written = subjects.read(look), subjects.written(look, run)
    not_checked = []
    if run.offline:
        if repos := [*read, *written]:
            not_checked.append(f"{_names(repos)} on the hub: HF_HUB_OFFLINE is set")
        read, written = [], []
    curves = subjects.tracked(look, run)
    keys = keys_of(look, run)
    questions: dict[object, Question] = {}
    with ExitStack() as stack:
        if read or written:
            from launcher.preflight.online.hub import Hub  # its client takes a third of a second

            hub = stack.enter_context(Hub(run.hub, host_of(run.hub), patience_s))
            questions.update(reading.questions(read, hub, keys))
            questions.update(writing.questions(written, hub, keys))
        if curves is not None:
            questions.update(tracking.questions(curves, run.wandb, keys, patience_s))
        answers = ask(questions, within_s=patience_s)
    found = (
        reading.judge(look, read, run, keys, answers),
        writing.judge(look, written, run, keys, answers),
        tracking.judge(look, curves, run, keys, answers),
    )
    known = {key for judged in found for key in judged.known}
    problems = [one for judged in found for one in judged.problems]
    at = next((judged.refused for judged in found if judged.refused is not None), None)
    if at is not None and keys.hub is not None:
        page = f"{run.hub}/settings/tokens"
        host, login = host_of(run.hub), "hf auth login --force"
        problems.insert(0, refused(look, at, keys.hub, host, page=page, login=login))
    not_checked += _unanswered(questions, answers)
    not_checked += [text for judged in found for text in judged.not_checked]
    return Answered(
        problems=tuple(dict.fromkeys(problems)),
        not_checked=tuple(dict.fromkeys(not_checked)),
        outdated=frozenset(one for key, one in tokens.about_hub(look) if key in known),
    )


def _names(repos: Sequence[Repo], most: int = 3) -> str:
    names = list(dict.fromkeys(repo.id for repo in repos))
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"


def _unanswered(questions: dict[object, Question], answers: dict[object, object]) -> list[str]:
    """A sentence for each thing that went wrong with a service, not for each question."""
    silent: dict[tuple[str, str], list[str]] = {}
    for key, question in questions.items():
        answer = answers[key]
        if isinstance(answer, Unanswered):
            silent.setdefault((question.host, answer.why), []).append(question.about)
    return [
        f"{', '.join(dict.fromkeys(about))}: {host} {why}" for (host, why), about in silent.items()
    ]
