"""The hub: repositories, accounts, and what each may see of the other."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from clouds.hub.serving import Reply, Seen, Service

_REPO = re.compile(
    r"/api/(?P<kind>models|datasets|spaces)/(?P<id>[^/]+(/[^/]+)?)"
    r"/(?P<what>auth-check|revision/(?P<revision>[^/?]+))(\?.*)?"
)
_STRANGER = "Invalid username or password."
_NOT_GATED = (
    "Please enable access to public gated repositories in your fine-grained token settings to view "
    "this repository."
)
NOT_ACCEPTED = "Invalid credentials in Authorization header"


@dataclass(frozen=True)
class Repo:
    """A repository. `readers` are accounts that a private or gated one is open to."""

    gated: bool = False
    private: bool = False
    disabled: bool = False
    readers: frozenset[str] = frozenset()
    revisions: frozenset[str] = frozenset({"main"})
    moved_to: str = ""


class Hub(Service):
    """The hub. `codes` False leaves X-Error-Code out of what a stranger is told, as it once did."""

    def __init__(self, *, codes: bool = True) -> None:
        super().__init__()
        self._codes = codes
        self._repos: dict[tuple[str, str], Repo] = {}
        self._accounts: dict[str, dict[str, Any]] = {}

    def add(
        self,
        name: str,
        kind: str = "model",
        *,
        readers: Sequence[str] = (),
        revisions: Sequence[str] = ("main",),
        gated: bool = False,
        private: bool = False,
        disabled: bool = False,
        moved_to: str = "",
    ) -> None:
        """Make a repository."""
        self._repos[f"{kind}s", name] = Repo(
            gated, private, disabled, frozenset(readers), frozenset(revisions), moved_to
        )

    def account(
        self,
        token: str,
        name: str,
        *,
        role: str | None = "write",
        orgs: Mapping[str, str] | None = None,
        groups: Mapping[str, Sequence[str]] | None = None,
        scoped: Sequence[Mapping[str, Any]] = (),
        sees_gated: bool = True,
        shape: Mapping[str, Any] | None = None,
    ) -> None:
        """A token of somebody.

        role    of the token; None for one that says nothing of itself, as those of an app
        orgs    the account's organisations and its role in each
        groups  the roles in groups of an organisation's repositories
        sees_gated  of a fine-grained token: it may read what is gated at all
        shape   takes the place of what the hub would say
        """
        listed = []
        for org, role_in in (orgs or {}).items():
            inside = [{"id": "g", "name": "g", "role": r} for r in (groups or {}).get(org, ())]
            listed.append({"type": "org", "id": f"id-{org}", "name": org, "roleInOrg": role_in})
            if inside:
                listed[-1]["resourceGroups"] = inside  # type: ignore[assignment]
        access: dict[str, Any] = {"displayName": "mine", "role": role}
        if role == "fineGrained":
            access["fineGrained"] = {
                "global": [],
                "scoped": list(scoped),
                "canReadGatedRepos": sees_gated,
            }
        auth = {"type": "access_token", "accessToken": access} if role else {"type": "oauth"}
        self._accounts[token] = {
            "type": "user",
            "id": f"id-{name}",
            "name": name,
            "orgs": listed,
            "auth": auth,
            **(shape or {}),
        }

    def answer(self, seen: Seen) -> Reply:
        """One call of the API."""
        token = seen.authorization.removeprefix("Bearer ")
        account = self._accounts.get(token)
        if token and account is None:
            return _refusal(401, NOT_ACCEPTED)
        if seen.path == "/api/whoami-v2":
            return _refusal(401, _STRANGER) if account is None else Reply(200, account)
        found = _REPO.fullmatch(seen.path)
        if found is None:
            return _refusal(404, "Sorry, we can't find the page you are looking for.")
        name = unquote(found["id"])
        repo = self._repos.get((found["kind"], name))
        if repo is not None and repo.moved_to:
            there = f"/api/{found['kind']}/{repo.moved_to}/{found['what']}"
            return Reply(307, {}, {"Location": there})
        who = None if account is None else str(account["name"])
        if repo is None or (repo.private and who not in repo.readers):
            return self._missing(who)
        if repo.disabled:
            return _refusal(403, "Access to this resource is disabled.")
        if found["revision"] is not None:
            if unquote(found["revision"]) in repo.revisions:
                return Reply(200, {"id": name, "sha": "0" * 40})
            return _refusal(404, "Invalid rev id: it is not there", "RevisionNotFound")
        access = {} if account is None else account["auth"].get("accessToken", {})
        if repo.gated and not access.get("fineGrained", {}).get("canReadGatedRepos", True):
            return _refusal(403, _NOT_GATED)
        return self._gate(name, repo, who)

    def _missing(self, who: str | None) -> Reply:
        if who is not None:
            return _refusal(404, "Repository not found", "RepoNotFound")
        return _refusal(401, _STRANGER, "RepoNotFound" if self._codes else None)

    def _gate(self, name: str, repo: Repo, who: str | None) -> Reply:
        if not repo.gated or who in repo.readers:
            return Reply(200, "OK")
        if who is None:
            text = f"Access to model {name} is restricted. You must be authenticated to access it."
            return _refusal(401, text, "GatedRepo")
        text = f"Access to model {name} is restricted and you are not in the authorized list."
        return _refusal(403, text, "GatedRepo")


def _refusal(status: int, message: str, code: str | None = None) -> Reply:
    headers = {"X-Error-Message": message}
    if code is not None:
        headers["X-Error-Code"] = code
    return Reply(status, {"error": message}, headers)
