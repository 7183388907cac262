"""A change made to what the user wrote, kept so that it can be shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Change:
    """One key that got another value than the user's file gives it.

    key     where, as the user would write it after `--set`
    before  the value it had; None when it had none
    after   the value it has now; None when it was taken out
    why     one phrase for a person
    """

    key: str
    before: Any
    after: Any
    why: str
