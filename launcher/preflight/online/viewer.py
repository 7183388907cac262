"""Whose a key of Weights & Biases is, and which teams that account is in.

Asked over its GraphQL: POST BASE/graphql with the key as the password of a user named `api`. The
`wandb` package asks the same (its query GetViewer), but brings 20 MB and a program of its own, for
one question; httpx is here anyway.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

from launcher.preflight.online.asking import Silent
from launcher.preflight.online.silence import silence, undecided

if TYPE_CHECKING:
    from launcher.preflight.online.run import Key

_QUERY = "query Viewer { viewer { username entity teams { edges { node { name } } } } }"


@dataclass(frozen=True)
class Viewer:
    """An account. `teams` is None when the service does not list them."""

    name: str
    default: str
    teams: tuple[str, ...] | None


NOBODY = Viewer("", "", ())
"""What a key that is not accepted is of."""


def viewer(base: str, key: Key, patience_s: float) -> Viewer:
    """Who the key is of; NOBODY when it is not accepted. Raises Silent where nothing is known."""
    try:
        with httpx.Client(timeout=patience_s, auth=("api", key.value)) as client:
            answer = client.post(f"{base}/graphql", json={"query": _QUERY})
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        raise silence(error, patience_s) from error
    if answer.status_code == 401:
        return NOBODY
    if answer.status_code != 200:
        raise undecided(answer.status_code)
    try:
        return _read(answer.json())
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise Silent("answered what nobody understands") from error


def _read(answer: Any) -> Viewer:
    if answer.get("errors"):
        raise ValueError("errors")
    found = answer["data"]["viewer"]
    if found is None:  # how it answers a key that is no user's
        return NOBODY
    teams = found.get("teams")
    names = None if teams is None else tuple(str(edge["node"]["name"]) for edge in teams["edges"])
    return Viewer(str(found.get("username") or ""), str(found.get("entity") or ""), names)
