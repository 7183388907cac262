"""The SDK's errors, in our words: one place, and a table."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence

from backends.errors import (
    CredentialsMissing,
    FtlaunchError,
    Lost,
    NoCapacity,
    NotLaunched,
    Refused,
    Unreachable,
    Unsure,
)
from backends.skypilot.unanswered import AGAIN, LOGIN, unanswered


def plain(text: str) -> str:
    """Text without the colours of a terminal."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """The SDK's errors become ours: `KINDS` says which."""
    try:
        yield
    except FtlaunchError:
        raise
    except Exception as error:
        raise _ours(error) from error


def _ours(error: Exception) -> FtlaunchError:
    words = _words(error)
    if (found := unanswered(error, words)) is not None:
        return found
    for kind in type(error).__mro__:
        if kind.__name__ in KINDS:
            if kind.__name__ == FULL and not _is_full(error):
                return NotLaunched(f"SkyPilot could make no cluster: {words}", hint="sky check")
            make, message, hint = KINDS[kind.__name__]
            return make(message.format(words), hint=hint)
    return NotLaunched(f"SkyPilot could not do it: {words}", hint="see: sky api logs -l")


def _is_full(error: Exception) -> bool:
    """Whether it is the machines that lack: SkyPilot says the same of a key, a quota, a feature.

    All that was tried has to say so: who goes elsewhere for room pays another provider.
    """
    tried = getattr(error, "failover_history", None) or [error]
    return all(
        type(one).__name__ == FULL and not _NOT_FULL.search(plain(str(one))) for one in tried
    )


FULL = "ResourcesUnavailableError"
_NOT_FULL = re.compile(r"credential|permission|quota|invalid cloud config", re.IGNORECASE)


def _words(error: Exception) -> str:
    """The first sentence of what is often a page, without colours."""
    text = plain(str(error)).strip() or type(error).__name__
    return text.splitlines()[0].strip().rstrip(".")


def history(error: BaseException | None) -> Sequence[str]:
    """What was tried before nothing was left, in a phrase each."""
    cause = getattr(error, "__cause__", None) or error
    found = getattr(cause, "failover_history", None) or []
    return [_words(one) for one in found if isinstance(one, Exception)]


def as_launch_error(error: BaseException) -> BaseException:
    """What a launch that left nothing behind raises for an error in it."""
    if not isinstance(error, Exception):
        return error
    if isinstance(error, (NotLaunched, Refused, Unsure)):
        if tried := history(error):
            error.hint = f"{error.hint}; tried: {'; '.join(tried)}"
        return error
    if isinstance(error, FtlaunchError):
        return NotLaunched(error.message, hint=error.hint)
    return NotLaunched(f"the launch failed: {error}", hint="nothing was left behind")


KINDS: Mapping[str, tuple[type[FtlaunchError], str, str]] = {
    "ApiServerConnectionError": (Unreachable, "SkyPilot's API server does not answer: {}", AGAIN),
    "ApiServerAuthenticationError": (
        CredentialsMissing,
        "SkyPilot's API server wants a login: {}",
        LOGIN,
    ),
    "PermissionDeniedError": (
        Refused,
        "SkyPilot's API server does not let you do it: {}",
        "ask whoever runs it, or log in as somebody else: sky api login",
    ),
    "APIVersionMismatchError": (
        Refused,
        "SkyPilot here and its API server are of different versions: {}",
        "restart a local one with: sky api stop && sky api start",
    ),
    "RequestInterruptedError": (Unreachable, "SkyPilot's API server was restarted: {}", AGAIN),
    "ServerTemporarilyUnavailableError": (Unreachable, "SkyPilot's API server is busy: {}", AGAIN),
    "ExecutionRetryableError": (Unreachable, "SkyPilot's API server is busy: {}", AGAIN),
    "NoCloudAccessError": (CredentialsMissing, "SkyPilot has no cloud to use: {}", "sky check"),
    "KubeAPIUnreachableError": (Unreachable, "the Kubernetes cluster does not answer: {}", AGAIN),
    FULL: (
        NoCapacity,
        "nothing of that kind is free: {}",
        "ask for more kinds with -g, or for another place with -b skypilot:INFRA",
    ),
    "ResourcesMismatchError": (Refused, "the cluster is too small for that: {}", ""),
    "ClusterDoesNotExist": (Lost, "SkyPilot has no such cluster: {}", ""),
    "ClusterNotUpError": (Unreachable, "the cluster is not up: {}", "look with: sky status"),
    "ClusterStatusFetchingError": (Unreachable, "the cloud does not say: {}", AGAIN),
    "FetchClusterInfoError": (Unreachable, "the cloud does not say: {}", AGAIN),
    "RequestCancelled": (NotLaunched, "the request was cancelled: {}", ""),
    "InvalidSkyPilotConfigError": (Refused, "SkyPilot's configuration is not valid: {}", ""),
    "ConnectionError": (Unreachable, "SkyPilot's API server does not answer: {}", AGAIN),
    "ChunkedEncodingError": (Unreachable, "SkyPilot's API server broke off: {}", AGAIN),
    "RequestException": (Unreachable, "SkyPilot's API server gives no answer: {}", AGAIN),
    "Timeout": (Unreachable, "SkyPilot's API server took too long: {}", AGAIN),
}
