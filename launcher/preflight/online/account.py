"""Who a token of the hub belongs to, and where it may write, as `whoami-v2` tells it.

The shape of an answer, of which huggingface_hub only says that it is a dictionary:
`name`, `type` (user, org, app), `orgs` (each `name`, `roleInOrg`, `resourceGroups` with a `role`),
and `auth.accessToken`: `role` (read, write, fineGrained) and, of the last kind, `fineGrained` with
`global` permissions and `scoped` ones (`entity` with `type` and `name`, `permissions`).
Roles in an organisation: https://huggingface.co/docs/hub/organizations-security
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

_WRITERS = frozenset({"admin", "write", "contributor"})


@dataclass(frozen=True)
class Org:
    """An organisation the account is in.

    role    read, contributor, write, admin, or what else the hub says; empty when it does not
    groups  its roles in groups of repositories, which may give more than `role`
    """

    name: str
    role: str
    groups: tuple[str, ...] = ()

    @property
    def writes(self) -> bool | None:
        """Whether its members of this role may make repositories; None when it depends."""
        if not self.role or self.role in _WRITERS:
            return True
        return None if _WRITERS & set(self.groups) else False


@dataclass(frozen=True)
class Scope:
    """What a fine-grained token may do with a user's, an organisation's or one repository."""

    kind: str
    name: str
    permissions: tuple[str, ...]

    @property
    def writes(self) -> bool:
        """Whether files may be written there (`repo.write`)."""
        return any(_is_write(permission) for permission in self.permissions)


@dataclass(frozen=True)
class Account:
    """Whose a token is.

    role    the token's: read, write, fineGrained; empty for one that says nothing of itself
    scopes  of a fine-grained token
    """

    name: str
    orgs: Mapping[str, Org] = field(default_factory=dict)
    role: str = ""
    everywhere: tuple[str, ...] = ()
    scopes: tuple[Scope, ...] = ()

    def may_write(self, kind: str, namespace: str, repo: str) -> bool | None:
        """What the token allows by itself; None where that cannot be told from outside."""
        if self.role == "read":
            return False
        if self.role != "fineGrained" or any(map(_is_write, self.everywhere)):
            return True if self.role else None
        wide = {("user", namespace.casefold()), ("org", namespace.casefold())}
        wanted = {*wide, (kind, repo.casefold())}
        writing = [scope for scope in self.scopes if scope.writes]
        if any((scope.kind, scope.name.casefold()) in wanted for scope in writing):
            return True
        return None if any(scope.kind == "resource-group" for scope in writing) else False


def account(answer: Mapping[str, Any]) -> Account:
    """Read the answer. Raises TypeError, ValueError or AttributeError for what is none."""
    name = answer.get("name")
    if not isinstance(name, str) or not name:
        raise ValueError("no name")
    token = _mapping(_mapping(answer.get("auth")).get("accessToken"))
    fine = _mapping(token.get("fineGrained"))
    orgs = [_org(org) for org in _mappings(answer.get("orgs"))]
    return Account(
        name=name,
        orgs={org.name.casefold(): org for org in orgs if org.name},
        role=_text(token.get("role")),
        everywhere=_texts(fine.get("global")),
        scopes=tuple(map(_scope, _mappings(fine.get("scoped")))),
    )


def _org(org: Mapping[str, Any]) -> Org:
    groups = tuple(_text(group.get("role")) for group in _mappings(org.get("resourceGroups")))
    return Org(_text(org.get("name")), _text(org.get("roleInOrg")), groups)


def _scope(scope: Mapping[str, Any]) -> Scope:
    entity = _mapping(scope.get("entity"))
    permissions = _texts(scope.get("permissions"))
    return Scope(_text(entity.get("type")), _text(entity.get("name")), permissions)


def _is_write(permission: str) -> bool:
    return permission.startswith("repo.") and permission.endswith("write")


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _mappings(value: Any) -> Iterator[Mapping[str, Any]]:
    return (
        (each for each in value if isinstance(each, dict)) if isinstance(value, list) else iter(())
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(each for each in value if isinstance(each, str)) if isinstance(value, list) else ()
