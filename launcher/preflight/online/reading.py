"""What a run downloads from the hub: whether it is there, and open to the token the run gets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from launcher.preflight.online.asking import Question
from launcher.preflight.online.judging import Judged, give_token, has_none, words
from launcher.preflight.online.verdicts import Said, Verdict
from launcher.wording import shown

if TYPE_CHECKING:
    from launcher.preflight.online.hub import Hub
    from launcher.preflight.online.run import Key, Keys, Run
    from launcher.preflight.online.subjects import Repo
    from launcher.preflight.problem import Look, Problem

_STOPS = "axolotl stops when it comes to load it"


def questions(repos: Sequence[Repo], hub: Hub, keys: Keys) -> Iterator[tuple[object, Question]]:
    """One for each repository, and one for the revision of what is pinned."""
    for repo in repos:
        key = _key(repo, keys)
        yield repo, Question(shown(repo.id), hub.host, partial(hub.may_read, repo, key))
        if repo.revision is not None:
            about = f"revision {shown(repo.revision)} of {shown(repo.id)}"
            put = partial(hub.has_revision, repo, key)
            yield (repo, "revision"), Question(about, hub.host, put)


def judge(
    look: Look, repos: Sequence[Repo], run: Run, keys: Keys, answers: Mapping[object, object]
) -> Judged:
    """What the answers say about what the run will download."""
    judged = Judged()
    for repo in repos:
        said = answers[repo]
        if not isinstance(said, Said):
            continue
        judged.known.add(repo.key)
        key = _key(repo, keys)
        pinned = answers.get((repo, "revision"))
        if said.verdict is Verdict.REFUSED:
            judged.refused = judged.refused or repo.key
        elif said.verdict is Verdict.OPEN:
            if isinstance(pinned, Said) and pinned.verdict is Verdict.NO_REVISION:
                judged.problems.append(_no_revision(look, repo, run))
        elif key is None and keys.unknown and not repo.nobody:
            judged.not_checked.append(
                f"{shown(repo.id)}: it is not open to everybody, and what {keys.unknown[0]} opens "
                "is not known here"
            )
        else:
            closed = (
                _closed_to_nobody(look, repo, run, keys, said)
                if key is None
                else _closed_to(look, repo, run, key, said)
            )
            judged.problems.append(_or_kept(closed, repo, run, said))
    return judged


def _or_kept(problem: Problem, repo: Repo, run: Run, said: Said) -> Problem:
    """A warning, where transformers goes on with what this machine has of a gated model.

    (transformers 5, `utils/hub.py`, `cached_files`: of a missing one it takes nothing.)
    """
    if repo.kind == "model" and said.verdict is Verdict.GATED and run.has_kept(repo.id):
        message = problem.message.replace(_STOPS, "only what this machine's cache has of it loads")
        return replace(problem, severity="warning", message=message)
    return problem


def _key(repo: Repo, keys: Keys) -> Key | None:
    return None if repo.nobody else keys.hub


def _closed_to_nobody(look: Look, repo: Repo, run: Run, keys: Keys, said: Said) -> Problem:
    """What the hub keeps from those it does not know."""
    name, page = shown(repo.id), _page(repo, run)
    lacks, way_in = has_none(keys), give_token(keys)
    if repo.nobody:
        lacks = "hf_use_auth_token: false says to show no token"
        way_in = "take hf_use_auth_token: false out"
    if said.verdict is Verdict.GATED:
        message = f"{name} is gated, and {lacks}; {_STOPS}"
        return look.error(repo.key, message, f"agree to its terms at {page}, and {way_in}")
    if said.verdict is Verdict.MISSING:
        message = f"{name} is no public {repo.kind} of the hub, and {lacks}; {_STOPS}"
        return look.error(repo.key, message, f"mend its spelling; if it is private, {way_in}")
    return _kept_from_all(look, repo, run, said)


def _closed_to(look: Look, repo: Repo, run: Run, key: Key, said: Said) -> Problem:
    """What the hub keeps from the account that the token is of."""
    name, page = shown(repo.id), _page(repo, run)
    if said.verdict is Verdict.GATED:
        message = f"{name} is gated, and {key.name} has no access to it yet; {_STOPS}"
        return look.error(
            repo.key,
            message + words(said.words),
            f"agree to its terms at {page}, with the account that {key.name} is of; its owner may "
            "take a while to let you in",
        )
    if said.verdict is Verdict.MISSING:
        message = f"{name} is not on the hub, or private and closed to {key.name}; {_STOPS}"
        return look.error(
            repo.key,
            message,
            f"mend its spelling; if it is private, give the account of {key.name} access: {page}",
        )
    if said.verdict is Verdict.FORBIDDEN:
        message = f"{key.name} may not read {name}{words(said.words)}; {_STOPS}"
        fix = f"let it, where tokens are made: {run.hub}/settings/tokens"
        return look.error(repo.key, message, fix)
    return _kept_from_all(look, repo, run, said)


def _kept_from_all(look: Look, repo: Repo, run: Run, said: Said) -> Problem:
    what = "is disabled on the hub" if said.verdict is Verdict.DISABLED else "is closed"
    message = f"{shown(repo.id)} {what}{words(said.words)}; {_STOPS}"
    return look.error(repo.key, message, f"see {_page(repo, run)}, or take another {repo.kind}")


def _no_revision(look: Look, repo: Repo, run: Run) -> Problem:
    message = f"{shown(repo.id)} has no revision {shown(repo.revision or '')}; {_STOPS}"
    fix = f"take a branch, a tag or a commit that it has: {_page(repo, run)}/tree/main"
    return look.error(repo.revision_key, message, fix)


def _page(repo: Repo, run: Run) -> str:
    """Where a person finds it."""
    folder = "" if repo.kind == "model" else f"{repo.kind}s/"
    return f"{run.hub}/{folder}{repo.id}"
