"""Why a service gave no answer, in the words that follow its name."""

from __future__ import annotations

import httpx

from launcher.preflight.online.asking import Silent


def silence(error: Exception, patience_s: float) -> Silent:
    """What an error of httpx says."""
    if isinstance(error, httpx.TimeoutException):
        return Silent(f"did not answer within {patience_s:g} s")
    if isinstance(error, httpx.InvalidURL | httpx.UnsupportedProtocol):
        return Silent("is no address that can be asked")
    return Silent("could not be reached")


def undecided(code: int) -> Silent:
    """What a status that decides nothing says."""
    if code == 429:
        return Silent("is asked too often just now (429)")
    return Silent(f"could not say (it answered {code})")
