"""Requests that the API server took no notice of, or somebody on the way to it answered."""

from __future__ import annotations

import re

from backends.errors import CredentialsMissing, FtlaunchError, Refused, Unreachable

START_NONE = {"SKYPILOT_DISABLE_LOCAL_API_SERVER": "1"}
"""Set wherever we use SkyPilot: its client would start an API server where none answers, which is
the user's to do."""

START = "start it with: sky api start (or log in to another: sky api login -e URL)"
LOGIN = "log in with: sky api login"
AGAIN = "try again in a while; what runs there goes on"

_NO_SERVER = "No SkyPilot API server endpoint is configured"
_NO_ANSWER = ("Failed to get request", "Failed to process response")
"""How the SDK's own words begin where none was started, and where an answer is none."""


def unanswered(error: Exception, words: str) -> FtlaunchError | None:
    """What it means in our words; None for an error that is an answer.

    words  the first sentence of the error
    """
    if isinstance(error, RuntimeError) and words.startswith(_NO_SERVER):
        return Unreachable("no SkyPilot API server answers", hint=START)
    code = getattr(getattr(error, "response", None), "status_code", None)
    if code is None and isinstance(error, RuntimeError) and words.startswith(_NO_ANSWER):
        found = re.search(r": (\d{3})\b", words)
        code = int(found[1]) if found else 500
    return None if code is None else _of_code(int(code), words)


def _of_code(code: int, words: str) -> FtlaunchError:
    if code == 401:
        return CredentialsMissing("SkyPilot's API server wants a login", hint=LOGIN)
    # Not found, too slow and too often are of the moment: a server that starts, or a way to it.
    if code < 500 and code not in {200, 404, 408, 429}:
        return Refused(f"SkyPilot's API server refuses it: {words}", hint="see: sky api info")
    return Unreachable(f"SkyPilot's API server answers with {code} and no more", hint=AGAIN)
