"""The account: the SDK, imported when it is needed, its client, and its errors in our words."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from backends.errors import (
    CredentialsMissing,
    FtlaunchError,
    Lost,
    NotLaunched,
    Refused,
    Unreachable,
)

DASHBOARD = "https://modal.com/apps"
PREFIX = "ftlaunch-"
"""What every app and every volume of ours is called by."""

_HOW = "make a token with: modal token new (or set MODAL_TOKEN_ID and MODAL_TOKEN_SECRET)"


class Account:
    """One user's Modal, as the environment or `~/.modal.toml` says."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._client: Any = None

    @property
    def sdk(self) -> Any:
        """The SDK. Raises CredentialsMissing where it is not installed."""
        try:
            import modal
        except ImportError as error:
            raise CredentialsMissing(
                "the Modal SDK is not installed",
                hint="install it with: pip install ftlaunch[modal]",
            ) from error
        return modal

    @property
    def client(self) -> Any:
        """A client with the account's token. Raises CredentialsMissing, Unreachable."""
        if self._client is None:
            sdk = self.sdk
            with translated():
                settings = sdk.config.config
                token = [
                    self._environ.get(name) or settings.get(key)
                    for name, key in (
                        ("MODAL_TOKEN_ID", "token_id"),
                        ("MODAL_TOKEN_SECRET", "token_secret"),
                    )
                ]
                if not all(token):
                    raise CredentialsMissing("there is no token for Modal", hint=_HOW)
                made = sdk.Client.from_credentials(*token)
                _greet(sdk, made)
                self._client = made
        return self._client

    def close(self) -> None:
        """Let go of the connection; the next use makes another."""
        self._client = None

    def apps(self) -> list[tuple[str, str]]:
        """Our apps that are not stopped: id and job."""
        with translated():
            environment = self.sdk.Environment.from_context(client=self.client)
            found = environment.apps.list()
        rows = [(app.app_id, getattr(app, "description", None) or app.name or "") for app in found]
        return [(i, name.removeprefix(PREFIX)) for i, name in rows if name.startswith(PREFIX)]

    def stop(self, app_id: str) -> None:
        """Ask for an app's end; one that is gone is well."""
        with translated():
            environment = self.sdk.Environment.from_context(client=self.client)
            for app in environment.apps.list():
                if app.app_id == app_id:
                    app.stop(client=self.client)

    def rates(self) -> Mapping[str, str]:
        """What things cost this account, by Modal's own names."""
        with translated():
            workspace = self.sdk.Workspace.from_context(client=self.client)
            return dict(workspace.billing.rates())

    def bill(self, job: str, since: datetime) -> Decimal | None:
        """Dollars that Modal's own report says of a job's app, in whole hours; None: nothing yet.

        Raises CredentialsMissing where the account's plan has no reports.
        """
        start = since.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        with translated():
            workspace = self.sdk.Workspace.from_context(client=self.client)
            rows = workspace.billing.report(start=start, resolution="h")
        costs = [row.cost for row in rows if row.description == PREFIX + job]
        return sum(costs, Decimal(0)) if costs else None

    def volume(self, name: str) -> Any:
        """A volume of ours, made when it is not there."""
        with translated():
            found = self.sdk.Volume.from_name(
                PREFIX + name, create_if_missing=True, version=2, client=self.client
            )
            found.hydrate(self.client)
            return found

    def volumes(self) -> list[str]:
        """The names of the volumes that are ours."""
        with translated():
            found = self.sdk.Volume.objects.list(client=self.client)
        names = sorted(str(volume.name) for volume in found)
        return [name for name in names if name.startswith(PREFIX)]

    def control(self) -> Any:
        """The dictionary through which jobs are told to stop."""
        with translated():
            found = self.sdk.Dict.from_name(
                PREFIX + "control", create_if_missing=True, client=self.client
            )
            found.hydrate(self.client)
            return found

    def call(self, call_id: str) -> Any:
        """A function call that was made before."""
        with translated():
            return self.sdk.FunctionCall.from_id(call_id, client=self.client)


def _greet(sdk: Any, client: Any) -> None:
    """Say hello: an SDK that is too old would else show in the middle of a launch."""
    try:
        client.hello()
    except (sdk.exception.VersionError, sdk.exception.ConflictError) as error:
        _, message, hint = KINDS["VersionError"]
        raise Refused(message.format(error), hint=hint) from error


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
    names = [kind.__name__ for kind in type(error).__mro__]
    words = str(error).strip() or type(error).__name__
    for name in names:
        if name in KINDS:
            kind, message, hint = KINDS[name]
            return kind(message.format(words), hint=hint)
    return Unreachable(f"Modal did not answer: {type(error).__name__}: {words}", hint=_AGAIN)


_AGAIN = "try again in a while; what runs there goes on"

KINDS: Mapping[str, tuple[type[FtlaunchError], str, str]] = {
    "AuthError": (CredentialsMissing, "Modal does not accept the token: {}", _HOW),
    "PermissionDeniedError": (CredentialsMissing, "Modal does not allow that: {}", _HOW),
    "NotFoundError": (Lost, "Modal has no such thing: {}", ""),
    "FileNotFoundError": (Lost, "Modal has no such file: {}", ""),
    "ResourceExhaustedError": (NotLaunched, "a limit of the Modal account is reached: {}", ""),
    "VersionError": (
        Refused,
        "this version of the Modal SDK is too old: {}",
        "renew it with: pip install --upgrade modal",
    ),
    "ImageBuildError": (NotLaunched, "the image does not build: {}", ""),
    "RemoteError": (NotLaunched, "Modal could not do it: {}", ""),
    "InvalidError": (Refused, "Modal refuses the job: {}", ""),
    "ExecutionError": (Refused, "Modal refuses the job: {}", ""),
    "AlreadyExistsError": (NotLaunched, "Modal has it already: {}", ""),
    "ConnectionError": (Unreachable, "Modal does not answer: {}", _AGAIN),
    "ServiceError": (Unreachable, "Modal does not answer: {}", _AGAIN),
    "InternalError": (Unreachable, "Modal has a fault of its own: {}", _AGAIN),
    "InternalFailure": (Unreachable, "Modal has a fault of its own: {}", _AGAIN),
    "TimeoutError": (Unreachable, "Modal took too long: {}", _AGAIN),
    "ClientClosed": (Unreachable, "the connection to Modal was closed: {}", _AGAIN),
}
