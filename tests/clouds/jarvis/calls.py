"""One request to the service, and the answer that refuses it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


class Refusal(Exception):
    """An answer that is not the one hoped for: a status, and what stands in the body."""

    def __init__(self, status: int, message: str, **more: Any) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"message": message, **more}


def not_found() -> Refusal:
    """What the service says of everything it does not know."""
    return Refusal(404, "Not Found", detail="Not Found")


@dataclass(frozen=True)
class Call:
    """One request, after the region's host has been taken off its address."""

    method: str
    region: str
    path: str
    query: dict[str, str]
    kind: str = ""
    """Its content type."""
    raw: bytes = b""
    body: dict[str, Any] = field(default_factory=dict)

    def number(self, name: str) -> int:
        """A number in the query; refused as the service's framework does."""
        try:
            return int(self.query[name])
        except (KeyError, ValueError):
            detail = {"loc": ["query", name], "msg": "field required", "type": "missing"}
            raise Refusal(422, "", detail=[detail]) from None


def part_of_form(body: bytes, kind: str) -> str:
    """The only file of a multipart form."""
    boundary = kind.partition("boundary=")[2].strip('"').encode()
    if not boundary:
        raise Refusal(422, "no form")
    section = body.split(b"--" + boundary)[1]
    return section.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n").decode(errors="replace")
