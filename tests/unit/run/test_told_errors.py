"""What a conductor says went wrong keeps its kind, and with it its exit code."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from backends.errors import Failed, FtlaunchError, MayStillBill, NoCapacity
from launcher.asking import _told_error
from launcher.store import Event


@pytest.mark.parametrize(
    ("data", "kind"),
    [({"exit_code": 5, "hint": "later"}, NoCapacity), ({"exit_code": 8}, MayStillBill),
     ({}, Failed), ({"exit_code": 99}, Failed)],
)  # fmt: skip
def test_the_error_that_was_said(data: dict[str, Any], kind: type[FtlaunchError]) -> None:
    error = _told_error(Event(1, 1, datetime.now(UTC), "error", "what happened", data))
    assert type(error) is kind
    assert (error.message, error.hint) == ("what happened", data.get("hint", ""))
