from __future__ import annotations

import inspect

import pytest
from jarvislabs import exceptions as vendor
from jarvislabs.models import Instance

from backends.errors import (
    CredentialsMissing,
    FtlaunchError,
    NoCapacity,
    NotLaunched,
    Refused,
    Unreachable,
)
from backends.jarvis.translation import translated

TABLE = [
    (vendor.AuthError("invalid"), CredentialsMissing),
    (vendor.InsufficientBalanceError("Insufficient balance"), NotLaunched),
    (vendor.NotFoundError("Instance 3 not found"), NotLaunched),
    (vendor.ValidationError("No free L4 GPUs in IN2 right now."), NoCapacity),
    (vendor.ValidationError("L4 is not available in EU1."), NoCapacity),
    (
        vendor.ValidationError("L40S is not available in any supported region right now."),
        NoCapacity,
    ),
    (
        vendor.ValidationError("RTX-PRO6000 is not available for VM instances right now."),
        NoCapacity,
    ),
    (vendor.ValidationError("Spot is not available for A100 right now."), NoCapacity),
    (
        vendor.ValidationError(
            "L4 is available for containers in IN2, but VM support is not available yet."
        ),
        Refused,
    ),
    (vendor.ValidationError("Spot instances are not available for CPU VMs."), Refused),
    (vendor.ValidationError("Template x is not available in IN2."), Refused),
    (vendor.ValidationError("Instance name cannot be empty"), Refused),
    (vendor.RegionResolutionError("two"), NotLaunched),
    (vendor.SSHError("x"), NotLaunched),
    (vendor.SSHConnectionError("x"), NotLaunched),
    (vendor.SSHAuthError("x"), NotLaunched),
    (vendor.APIError(0, "Request Connection failed: GET users/fetch"), Unreachable),
    (vendor.APIError(0, "Request timed out: GET users/fetch"), Unreachable),
    (vendor.APIError(0, "Instance creation failed: GPU not available"), NoCapacity),
    (vendor.APIError(0, "H100 is not available right now"), NoCapacity),
    (vendor.APIError(0, "The file system is unavailable"), NotLaunched),
    (vendor.APIError(400, "API v1 is not available"), NotLaunched),
    (vendor.APIError(0, "Instance creation failed: no"), NotLaunched),
    (vendor.APIError(400, "Disk size must be at least 100 GB"), NotLaunched),
    (vendor.APIError(429, "slow down"), Unreachable),
    (vendor.APIError(500, "oops"), Unreachable),
    (vendor.APIError(503, "Service Unavailable"), Unreachable),
    (vendor.APIError(522, "origin"), Unreachable),
    (vendor.JarvislabsError("x"), NotLaunched),
    (ValueError("Expecting value: line 1 column 1"), Unreachable),
    (KeyError("machine_id"), Unreachable),
]


@pytest.mark.parametrize(("error", "expected"), TABLE, ids=lambda value: repr(value)[:50])
def test_each_becomes_one_of_ours(error: Exception, expected: type[FtlaunchError]) -> None:
    with pytest.raises(FtlaunchError) as raised, translated():
        raise error
    assert type(raised.value) is expected


def test_every_error_of_the_sdk_is_in_the_table() -> None:
    known = {type(error) for error, _ in TABLE}
    there = {
        kind
        for _, kind in inspect.getmembers(vendor, inspect.isclass)
        if issubclass(kind, vendor.JarvislabsError)
    }
    assert there - known == set()


def test_a_row_that_pydantic_refuses() -> None:
    with pytest.raises(Unreachable, match="cannot read"), translated():
        Instance.model_validate({"machine_id": 1, "status": "Running", "template": None})


def test_ours_pass_as_they_are() -> None:
    with pytest.raises(Refused, match="mine"), translated():
        raise Refused("mine")


def test_the_user_is_not_translated() -> None:
    with pytest.raises(KeyboardInterrupt), translated():
        raise KeyboardInterrupt
