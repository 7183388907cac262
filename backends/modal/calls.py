"""What a job is at Modal: an app with one call; whether it is over, and how it is ended."""

from __future__ import annotations

import time

from backends.errors import FtlaunchError, MayStillBill
from backends.modal.account import DASHBOARD, Account, translated
from backends.modal.records import Note

_CONFIRM_S = 60.0
_NO_ANSWER = [
    "AuthError",
    "ClientClosed",
    "ConnectionError",
    "DataLossError",
    "InternalError",
    "PermissionDeniedError",
    "ResourceExhaustedError",
    "ServiceError",
    "UnimplementedError",
]
"""Errors of the SDK that are of a question to Modal, not what a call came to."""


class Calls:
    """The calls and apps of one account."""

    def __init__(self, account: Account) -> None:
        self._account = account

    def is_over(self, note: Note) -> tuple[bool, str]:
        """Whether a job's call has a result, or its app is gone; and what it says."""
        if not note.call:
            live = any(job == note.job for _, job in self._account.apps())
            return not live, "its app is stopped"
        sdk = self._account.sdk
        call = self._account.call(note.call)
        try:
            result = call.get(timeout=0)
        except sdk.exception.OutputExpiredError:
            return True, "its result is too old"
        except sdk.exception.FunctionTimeoutError as error:
            return True, f"Modal ended it: {error}"
        except (TimeoutError, sdk.exception.TimeoutError):
            return False, ""
        except tuple(getattr(sdk.exception, name) for name in _NO_ANSWER):
            with translated():  # the question failed, which says nothing of the call
                raise
        except Exception as error:  # noqa: BLE001 - what the container raised, whatever it was
            return True, f"{type(error).__name__}: {error}".strip(": ")
        return True, str(result.get("reason") or "") if isinstance(result, dict) else ""

    def cancel(self, note: Note) -> bool:
        """End a job's call; whether Modal says that it is over."""
        with translated():
            self._account.call(note.call).cancel(terminate_containers=True)
        end = time.monotonic() + _CONFIRM_S
        while not self.is_over(note)[0]:
            if time.monotonic() > end:
                return False
            time.sleep(0.5)
        return True

    def end_app(self, app_id: str) -> None:
        """Stop an app, until the list no longer has it. Raises MayStillBill."""
        end = time.monotonic() + _CONFIRM_S
        last = "it is still listed"
        while True:
            try:
                self._account.stop(app_id)
                if all(app != app_id for app, _ in self._account.apps()):
                    return
            except FtlaunchError as error:
                last = error.message
            if time.monotonic() > end:
                raise MayStillBill(
                    f"the app {app_id} at Modal is not stopped: {last}",
                    hint=f"end it with: modal app stop {app_id} (or at {DASHBOARD})",
                )
            time.sleep(0.5)
