"""Clients that make the mistakes the fault run is there to find: it has to find them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from backends.errors import FtlaunchError
from backends.jarvis.machines import Machines
from backends.jarvis.records import Box, Held
from backends.protocol import Backend
from launcher.run import pull
from launcher.run.pull import Pulled
from launcher.store import JobRecord


def become(which: str) -> None:
    """Make this process careless in one way of `WAYS`."""
    WAYS[which]()


def _takes_no_answer_for_no() -> None:
    """A create whose answer is lost has made nothing, it believes."""

    def after(self: Machines, box: Box, error: BaseException) -> Any:
        self._records.forget(box)
        raise error

    Machines._after = after  # type: ignore[method-assign]


def _takes_accepted_for_done() -> None:
    """A destroy that was asked for once is not looked after."""

    def destroy(self: Machines, box: Box) -> Box:
        row = self.look(box)
        if row is not None:
            with contextlib.suppress(FtlaunchError):
                self._account.destroy(row)
        return self._records.save(replace(box, held=Held.GONE, machine=None))

    Machines.destroy = destroy  # type: ignore[method-assign]


def _believes_that_it_has_pulled() -> None:
    """What it does not fetch it takes for fetched, and lets go of the machine."""

    def nothing(backend: Backend, job: JobRecord, into: Path, *, patterns: Sequence[str]) -> Pulled:
        return Pulled(into=into, files=(), verified=True)

    setattr(pull, "pull", nothing)  # noqa: B010


WAYS: dict[str, Callable[[], None]] = {
    "takes no answer for no": _takes_no_answer_for_no,
    "takes accepted for done": _takes_accepted_for_done,
    "believes that it has pulled": _believes_that_it_has_pulled,
}
