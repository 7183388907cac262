"""What a run tells Weights & Biases: whether its key and its entity are accepted."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from launcher.preflight.online.asking import Question
from launcher.preflight.online.judging import Judged, refused
from launcher.preflight.online.run import host_of
from launcher.wording import shown

if TYPE_CHECKING:
    from launcher.preflight.online.run import Keys, Run
    from launcher.preflight.online.subjects import Curves
    from launcher.preflight.online.viewer import Viewer
    from launcher.preflight.problem import Look, Problem

WHO = "viewer"
_STOPS = "W&B refuses the run, and axolotl stops when training begins"


def questions(
    curves: Curves, base: str, keys: Keys, patience_s: float
) -> Iterator[tuple[object, Question]]:
    """Whose the key is, where the run gets one."""
    if (key := keys.wandb) is not None:
        from launcher.preflight.online.viewer import viewer

        about = "WANDB_API_KEY" if curves.entity is None else f"wandb_entity {shown(curves.entity)}"
        yield WHO, Question(about, host_of(base), lambda: viewer(base, key, patience_s))


def judge(
    look: Look, curves: Curves | None, run: Run, keys: Keys, answers: Mapping[object, object]
) -> Judged:
    """What the account says about what will be tracked."""
    judged = Judged()
    if curves is None:
        return judged
    if (key := keys.wandb) is None:
        # That there is none is told without a network.
        if curves.entity is not None:
            why = f"what {keys.unknown[0]} holds is not known here" if keys.unknown else ""
            judged.not_checked.append(
                f"wandb_entity {shown(curves.entity)}: {why or 'the run gets no WANDB_API_KEY'}"
            )
        return judged
    if WHO not in answers:
        return judged
    from launcher.preflight.online.viewer import NOBODY, Viewer

    found = answers[WHO]
    if found == NOBODY:
        page = run.wandb.replace("://api.", "://") + "/authorize"
        host = host_of(run.wandb)
        at = ("wandb_entity",) if curves.entity is not None else curves.key
        login = "wandb login --relogin"
        judged.problems.append(refused(look, at, key, host, page=page, login=login))
    elif isinstance(found, Viewer) and curves.entity is not None:
        judged.problems += _entity(look, curves.entity, found, judged)
    return judged


def _entity(look: Look, entity: str, found: Viewer, judged: Judged) -> Iterator[Problem]:
    names = [
        name for name in dict.fromkeys((found.name, found.default, *(found.teams or ()))) if name
    ]
    if entity.casefold() in {name.casefold() for name in names}:
        return
    if found.teams is None or not names:
        judged.not_checked.append(f"wandb_entity {shown(entity)}: W&B does not list your teams")
        return
    mine = ", ".join(map(shown, names))
    near = difflib.get_close_matches(entity, names, n=1)
    message = f"wandb_entity {shown(entity)} is neither you nor a team of yours at W&B ({mine})"
    yield look.error(
        ("wandb_entity",),
        f"{message}; {_STOPS}",
        f"wandb_entity: {shown(near[0] if near else names[0])}, or ask that team to invite you",
    )
