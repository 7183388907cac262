"""Weights & Biases, as far as one question goes: who is the viewer?"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

from clouds.hub.serving import Reply, Seen, Service


class Wandb(Service):
    """The service. `polite` True answers a key it does not know with no viewer, instead of 401."""

    def __init__(self, *, polite: bool = False) -> None:
        super().__init__()
        self._polite = polite
        self._accounts: dict[str, dict[str, Any]] = {}

    def account(self, key: str, name: str, teams: Sequence[str] | None = ()) -> None:
        """A key of somebody; `teams` None for a service that does not list them."""
        listed = None if teams is None else {"edges": [{"node": {"name": n}} for n in teams]}
        self._accounts[key] = {"username": name, "entity": name, "teams": listed}

    def answer(self, seen: Seen) -> Reply:
        """One call of its GraphQL."""
        if (seen.method, seen.path) != ("POST", "/graphql"):
            return Reply(404, {"errors": [{"message": "not found"}]})
        scheme, _, given = seen.authorization.partition(" ")
        user, _, key = base64.b64decode(given).decode().partition(":")
        query = json.loads(seen.body)["query"]
        if "viewer" not in query:
            return Reply(400, {"errors": [{"message": "Cannot query field"}]})
        found = self._accounts.get(key) if (scheme, user) == ("Basic", "api") else None
        if found is None and not self._polite:
            return Reply(
                401, {"errors": [{"message": "user is not logged in", "path": ["viewer"]}]}
            )
        return Reply(200, {"data": {"viewer": found}})
