"""Every error of the provider's SDK, as one of ours with a way out."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from backends.errors import (
    CredentialsMissing,
    FtlaunchError,
    NoCapacity,
    NotLaunched,
    Refused,
    Unreachable,
)

GET_KEY = "put the account's key into JL_API_KEY, or run: jl setup"


class Accepted(Exception):
    """No error: the provider has taken a create or resume in, and said which machine it will be."""

    def __init__(self, machine: int) -> None:
        super().__init__(machine)
        self.machine = machine


def require_sdk() -> None:
    """Raises NotLaunched when the provider's SDK is not installed."""
    try:
        import jarvislabs  # noqa: F401 - is it there?
    except ImportError as error:
        raise NotLaunched(
            "the SDK of Jarvis Labs is not installed",
            hint="install it with: pip install 'ftlaunch[jarvis]'",
        ) from error


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """What the SDK raises becomes an error of ours, with a way out.

    CredentialsMissing  the key was not accepted
    NoCapacity          no such GPU is free
    NotLaunched         the provider refuses: no balance, or what was asked for
    Refused             the SDK itself refuses what was asked for
    Unreachable         no answer, an answer that makes no sense, or a server's own error
    """
    from jarvislabs import exceptions as vendor

    try:
        yield
    except (FtlaunchError, Accepted):
        raise
    except vendor.AuthError as error:
        raise CredentialsMissing(
            f"Jarvis Labs did not accept the key: {error}", hint=GET_KEY
        ) from error
    except vendor.InsufficientBalanceError as error:
        raise NotLaunched(
            f"Jarvis Labs: {error}", hint="add to the account's balance, then try again"
        ) from error
    except vendor.NotFoundError as error:
        raise NotLaunched(f"Jarvis Labs: {error}", hint="look with: jl list") from error
    except vendor.ValidationError as error:
        raise _invalid(str(error)) from error
    except vendor.APIError as error:
        raise _refused(error.status_code, str(error)) from error
    except vendor.JarvislabsError as error:
        raise NotLaunched(f"Jarvis Labs: {error}") from error
    except Exception as error:  # rows that pydantic refuses, replies that are no JSON
        raise Unreachable(
            f"Jarvis Labs answers with what its SDK cannot read ({type(error).__name__})"
        ) from error


_FULL = re.compile(r"no free|not free|capacity|out of stock")
_ABSENT = re.compile(r"not available(?! yet)|unavailable")
_GPU = re.compile(r"\b(?:gpus?|[abhv]\d{2,4}|l\d{1,2}s?|t4|gh\d{3}|rtx\S*)\b")


def _is_full(message: str) -> bool:
    """Whether a GPU lacks: a template, a region or a service may be not available as well."""
    said = message.lower()
    return bool(_FULL.search(said) or (_ABSENT.search(said) and _GPU.search(said)))


def _invalid(message: str) -> FtlaunchError:
    if _is_full(message):
        return NoCapacity(f"Jarvis Labs: {message}", hint="see what is free with: jl gpus")
    return Refused(f"Jarvis Labs: {message}")


def _refused(status: int, message: str) -> FtlaunchError:
    # The SDK has no status for "no connection" and for a refusal inside a 200: both are 0.
    lost = status == 0 and ("Connection failed" in message or "timed out" in message)
    if lost or status == 429 or status >= 500:
        return Unreachable(f"Jarvis Labs does not answer properly: {message} ({status or 'lost'})")
    if _is_full(message):
        return NoCapacity(f"Jarvis Labs: {message}", hint="see what is free with: jl gpus")
    return NotLaunched(f"Jarvis Labs refuses: {message}")
