"""What the hub can say of a repository or of a token; what asks it is in `hub`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """One word of the hub."""

    OPEN = "open"
    MISSING = "missing"
    """Or private, which the hub does not tell apart from missing."""
    GATED = "gated"
    FORBIDDEN = "forbidden"
    """It is there, and this token may not read it."""
    DISABLED = "disabled"
    NO_REVISION = "no such revision"
    REFUSED = "refused"
    """The token itself is not accepted."""


@dataclass(frozen=True)
class Said:
    """A verdict, and the hub's own words where it had some."""

    verdict: Verdict
    words: str = ""
