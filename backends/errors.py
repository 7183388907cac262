"""Every error a user can meet, in one tree.

FtlaunchError                      1
├── BadInput                       2   the command line asks for what cannot be
├── Refused                        3   found before anything was spent: recipe, data, this machine
│   └── Unsupported                3   this backend cannot do that, and says so
├── NotLaunched                    1   nothing was started and nothing bills
│   ├── CredentialsMissing         4   the account's key is absent or not accepted
│   ├── NoCapacity                 5   nothing of the wanted kind is free
│   └── Unreachable                1   the provider does not answer (transient)
├── Failed                         1   the job itself failed
├── Lost                           6   the job's machine or supervisor is gone, with no verdict
├── Capped                         7   a limit of time or money ended it, or cannot be kept
└── MayStillBill                   8   something may still cost money; the hint says how to end it
    └── Unsure                     8   a launch whose outcome is unknown; carries what to look for

Each carries `transient` (worth trying again as it is), `hint` (what to do next) and `exit_code`.
A message is one sentence that names the place; the hint is the way out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from backends.lease import Lease
    from backends.offer import Money


class FtlaunchError(Exception):
    """Root of the tree; never raised as it is.

    billed  of a launch that came to nothing: what its machine has cost until it was let go of, by
            its price and the clock; None: there was none, or nobody knows
    """

    exit_code: ClassVar[int] = 1
    transient: ClassVar[bool] = False
    billed: Money | None = None

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class BadInput(FtlaunchError):
    """The command line asks for something that does not exist or cannot be."""

    exit_code = 2


class Refused(FtlaunchError):
    """Stopped before a cent was spent: the recipe, its data or this machine does not allow it."""

    exit_code = 3


class Unsupported(Refused):
    """The backend cannot do this; the message says what it can."""


class NotLaunched(FtlaunchError):
    """The launch did not happen: nothing runs and nothing bills."""


class CredentialsMissing(NotLaunched):
    """The provider's key is absent or was not accepted."""

    exit_code = 4


class NoCapacity(NotLaunched):
    """Nothing of the wanted kind is free now."""

    exit_code = 5
    transient = True


class Unreachable(NotLaunched):
    """The provider does not answer."""

    transient = True


class Failed(FtlaunchError):
    """The job ran and failed; its own exit code is in the observation."""


class Lost(FtlaunchError):
    """The job, or the files asked for, are gone without a verdict."""

    exit_code = 6


class Capped(FtlaunchError):
    """A limit of time or money ended the job, or could not be kept by this backend."""

    exit_code = 7


class MayStillBill(FtlaunchError):
    """Something of ours may still cost money; the hint holds the command that ends it."""

    exit_code = 8


class Unsure(MayStillBill):
    """A launch whose outcome is unknown.

    `lease` is what was learnt before the doubt began, or None when only the job's name is known:
    then `intent` is the provider-side tag to look for with `Backend.leases`.
    """

    def __init__(
        self, message: str, *, intent: str, lease: Lease | None = None, hint: str = ""
    ) -> None:
        super().__init__(message, hint=hint)
        self.intent = intent
        self.lease = lease


BY_EXIT_CODE: Mapping[object, type[FtlaunchError]] = {
    kind.exit_code: kind
    for kind in (
        Failed,
        BadInput,
        Refused,
        CredentialsMissing,
        NoCapacity,
        Lost,
        Capped,
        MayStillBill,
    )
}
"""The error that an exit code stands for, for what one process says to another."""
