"""What one group of answers comes to, and the sentences that the groups share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from launcher.preflight.tokens import way
from launcher.wording import shown

if TYPE_CHECKING:
    from launcher.preflight.online.run import Key, Keys
    from launcher.preflight.problem import Look, Problem
    from launcher.recipe.keypath import KeyPath

_LONGEST = 200


@dataclass
class Judged:
    """What was found.

    known    the keys that an answer settles, so that no guess about them is needed
    refused  the first key whose question the token was refused for; None when it is accepted
    """

    problems: list[Problem] = field(default_factory=list)
    not_checked: list[str] = field(default_factory=list)
    known: set[KeyPath] = field(default_factory=set)
    refused: KeyPath | None = None


def words(text: str) -> str:
    """What a service said, in brackets, on one line and no longer than it needs; may be empty."""
    said = " ".join(text.split())
    return f" ({shown(said[:_LONGEST])})" if said else ""


def refused(look: Look, at: KeyPath, key: Key, host: str, *, page: str, login: str) -> Problem:
    """A token that a service does not accept.

    page   where a new one is made
    login  the command that puts it on this machine
    """
    message = f"{host} does not accept {key.name}: it is expired, revoked or mistyped"
    if key.login:
        return look.error(at, message, f"log in again: {login}")
    fix = f"make a new one at {page}, then: read -rs {key.name} && export {key.name}"
    return look.error(at, message, fix)


def give_token(keys: Keys) -> str:
    """How the run gets a token of the hub, where it has none."""
    if keys.logged_in:
        # A login is a file of this machine, and no file of this machine travels by itself.
        return f'give it this machine\'s: export HF_TOKEN="$(hf auth token)", and {way("HF_TOKEN")}'
    return way("HF_TOKEN")


def has_none(keys: Keys) -> str:
    """Why the run has no token, in the middle of a sentence."""
    if keys.logged_in:
        return "the run gets no token: this machine is logged in to the hub, which does not travel"
    if keys.set_here:
        return f"the run gets no token: {keys.set_here} is set here, and not among its secrets"
    return "the run gets no token"
