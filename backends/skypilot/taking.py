"""What the libraries of buckets raise, in our words: one place."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator

from backends.errors import CredentialsMissing, FtlaunchError, Lost, Unreachable
from backends.skypilot.addresses import Address
from backends.skypilot.bucket.objects import Objects

_CREDENTIALS = frozenset({
    "PermissionError", "NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError",
    "RefreshError", "ClientAuthenticationError", "TokenRetrievalError",
})  # fmt: skip
_AGAIN = "try again in a while; what runs goes on"


def open_bucket(address: Address) -> Objects:
    """Raises CredentialsMissing where its library is not installed."""
    if importlib.util.find_spec(address.module) is None:
        raise CredentialsMissing(
            f"{address.module}, which reads {address.url}, is not installed",
            hint=f"install it with: pip install {address.module} (or ftlaunch[buckets])",
        )
    with taking(address):
        return Objects(address.url)


@contextlib.contextmanager
def taking(address: Address) -> Iterator[None]:
    """Errors of a bucket become ours."""
    try:
        yield
    except FtlaunchError:
        raise
    except Exception as error:
        names = {kind.__name__ for kind in type(error).__mro__}
        words = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if names & _CREDENTIALS:
            raise CredentialsMissing(
                f"{address.url} cannot be used with the credentials of this computer: {words}",
                hint="set them up as the cloud's own programs want them, and look at the bucket",
            ) from error
        if isinstance(error, FileNotFoundError):
            raise Lost(f"{address.url} is not there: {words}") from error
        raise Unreachable(f"{address.url} does not answer: {words}", hint=_AGAIN) from error
