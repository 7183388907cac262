"""The near side of the watchdog: what lets go of a machine when nobody comes back (`watchdog.py`).

It ends with the machine's processes: after a pause and a resume it has to be installed anew.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from backends.ssh import programs
from backends.ssh.programs import Answer
from backends.ssh.workplace import Workplace

_SOON = timedelta(minutes=2)


@dataclass(frozen=True)
class Request:
    """A hook that asks the provider over HTTPS; its secret headers are given apart."""

    url: str
    method: str = "POST"
    body: str | None = None
    timeout: timedelta = timedelta(seconds=60)

    def document(self) -> dict[str, Any]:
        """As `watchdog.py` reads it."""
        found = {"method": self.method, "url": self.url, "body": self.body}
        return {**found, "timeout_s": self.timeout.total_seconds()}


@dataclass(frozen=True)
class Command:
    """A hook that is a program of the machine; it may read the secret from the file `headers`."""

    argv: tuple[str, ...]
    timeout: timedelta = timedelta(seconds=60)

    def document(self) -> dict[str, Any]:
        """As `watchdog.py` reads it."""
        return {"argv": list(self.argv), "timeout_s": self.timeout.total_seconds()}


Hook = Request | Command


@dataclass(frozen=True)
class Watched:
    """How the watchdog stands.

    phase   watching, held, pausing; absent when there is none
    reason  why it acts: "pausing because …"
    last    what came of its last call, in words
    check   what was wrong with the call that tried the secret out; empty when nothing was
    """

    alive: bool
    phase: str
    reason: str = ""
    tries: int = 0
    last: str = ""
    check: str = ""
    more: Mapping[str, Any] = field(default_factory=dict)


def install(
    place: Workplace,
    hook: Hook,
    *,
    idle: timedelta,
    deadline: timedelta | None = None,
    secret_headers: bytes = b"",
    check: Hook | None = None,
    poll: timedelta = timedelta(seconds=15),
    retry: timedelta = timedelta(seconds=10),
    retry_longest: timedelta = timedelta(minutes=5),
) -> Watched:
    """Let the machine call `hook` by itself when it is not needed; returns when it watches.

    idle            for this long no job has run and no client was seen
    deadline        this long from now, whatever runs
    secret_headers  `Name: value` lines for the hook's request: on the machine they are in one file
                    that only its owner reads, and in no argument, environment or log
    check           a hook without effect, called once now: `Watched.check` says what was wrong
    Again and again is fine: what is given last holds. Raises SshError, FarError.
    """
    config = {
        "schema": 1,
        "jobs_root": str(place.root / "runs"),
        "idle_s": idle.total_seconds(),
        "deadline_s": None if deadline is None else deadline.total_seconds(),
        "hook": hook.document(),
        "check": None if check is None else check.document(),
        "poll_s": poll.total_seconds(),
        "retry_s": retry.total_seconds(),
        "retry_max_s": retry_longest.total_seconds(),
    }
    request = {
        "config": config,
        "secret": base64.b64encode(secret_headers).decode(),
        "program": programs.source("watchdog").decode(),
    }
    return _watched(_ask(place, "install", request))


def look(place: Workplace) -> Watched:
    """How it stands. Raises SshError, FarError."""
    return _watched(_ask(place, "status", {}))


def touch(place: Workplace) -> None:
    """Tell it that somebody is there; every call of a workplace does. Raises SshError, FarError."""
    programs.ask(place.host, "place", ["touch"], {"root": str(place.root)}, timeout=_SOON)


def hold(place: Workplace, span: timedelta) -> Watched:
    """Keep it from acting for so long, whatever comes; nothing lets go of the hold.

    For what takes long and is no call of the workplace. Raises SshError, FarError.
    """
    # Only a file whose time has changed is looked at: two equal holds are two.
    request = {"seconds": span.total_seconds(), "nonce": os.urandom(4).hex()}
    return _watched(_ask(place, "hold", request))


def remove(place: Workplace) -> None:
    """End it, and remove its secret from the machine; again and again is fine.

    Raises SshError; FarError when it does not end.
    """
    _ask(place, "remove", {})


def _ask(place: Workplace, command: str, request: Mapping[str, Any]) -> Answer:
    folder = str(place.root / "watch")
    return programs.ask(place.host, "watchdog", [command, folder], request, timeout=_SOON)


def _watched(answer: Answer) -> Watched:
    known = {"alive", "phase", "reason", "tries", "last", "check"}
    return Watched(
        more={key: value for key, value in answer.items() if key not in known},
        **{key: value for key, value in answer.items() if key in known},
    )
