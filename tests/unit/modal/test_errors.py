"""Every error of the SDK becomes one of ours."""

from __future__ import annotations

import inspect

import pytest
from modal import exception as vendor

from backends.errors import (
    CredentialsMissing,
    FtlaunchError,
    Lost,
    NotLaunched,
    Refused,
    Unreachable,
)
from backends.modal.account import KINDS, translated

ELSEWHERE = {
    # A container's or a sandbox's own.
    "DataLossError",
    "UnimplementedError",
    "WorkspaceManagementError",
    "SnapshotCreationError",
    "SandboxTerminatedError",
    "SandboxFilesystemError",
    "LogsFetchError",
    "DeserializationError",
    "SerializationError",
    "RequestSizeError",
    "ModuleNotMountable",
    "InputCancellation",
}
"""What falls to the last line of the table: Modal did not answer as it should."""


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (vendor.AuthError("no"), CredentialsMissing),
        (vendor.NotFoundError("x"), Lost),
        (FileNotFoundError("x"), Lost),
        (vendor.ResourceExhaustedError("full"), NotLaunched),
        (vendor.VersionError("old"), Refused),
        (vendor.InvalidError("odd"), Refused),
        (vendor.ConflictError("odd"), Refused),
        (vendor.ConnectionError("x"), Unreachable),
        (vendor.ServiceError("x"), Unreachable),
        (vendor.VolumeUploadTimeoutError("x"), Unreachable),
        (ValueError("nonsense"), Unreachable),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_each_becomes_one_of_ours(error: Exception, expected: type[FtlaunchError]) -> None:
    with pytest.raises(FtlaunchError) as raised, translated():
        raise error
    assert type(raised.value) is expected
    assert raised.value.message.endswith(str(error)) or str(error) in raised.value.message


def test_every_error_of_the_sdk_is_known() -> None:
    there = {
        name: kind
        for name, kind in inspect.getmembers(vendor, inspect.isclass)
        if issubclass(kind, BaseException)
        and kind.__module__ == vendor.__name__
        and not issubclass(kind, Warning)
        and not name.startswith("_")
        and kind is not vendor.Error
    }
    unknown = {
        name
        for name, kind in there.items()
        if not {one.__name__ for one in kind.__mro__} & (set(KINDS) | ELSEWHERE)
    }
    assert unknown == set()
