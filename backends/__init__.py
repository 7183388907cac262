"""Where jobs run: the protocol, its nouns, and one file per provider.

This package knows nothing of training. It stands on the standard library alone, so that a stranger
can write a backend against it; a provider's SDK is imported inside that provider's file, when used.

`backends.protocol` is the contract; `backends.testing` holds every backend to it.

The names below are imported when they are first asked for: `ftlaunch --help` needs the errors, and
should not pay for the rest.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from backends.errors import (
        BadInput,
        Capped,
        CredentialsMissing,
        Failed,
        FtlaunchError,
        Lost,
        MayStillBill,
        NoCapacity,
        NotLaunched,
        Refused,
        Unreachable,
        Unsupported,
        Unsure,
    )
    from backends.job import (
        Attached,
        Cache,
        Environment,
        Files,
        Job,
        LocalFile,
        LocalTree,
        Secrets,
    )
    from backends.lease import Address, Finding, Keep, Lease, Observation, Phase, Signal
    from backends.offer import Money, Need, Offer
    from backends.plan import (
        CheckpointRule,
        MetricPattern,
        Newest,
        Plan,
        RunPath,
        Step,
        StopRecipe,
    )
    from backends.protocol import Backend, Options, Progress

_HOMES = {
    "errors": "BadInput Capped CredentialsMissing Failed FtlaunchError Lost MayStillBill "
    "NoCapacity NotLaunched Refused Unreachable Unsupported Unsure",
    "job": "Attached Cache Environment Files Job LocalFile LocalTree Secrets",
    "lease": "Address Finding Keep Lease Observation Phase Signal",
    "offer": "Money Need Offer",
    "plan": "CheckpointRule MetricPattern Newest Plan RunPath Step StopRecipe",
    "protocol": "Backend Options Progress",
}
_HOME = {name: home for home, names in _HOMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    """The name's own module is imported now."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


__all__ = [
    "Address",
    "Attached",
    "Backend",
    "BadInput",
    "Cache",
    "Capped",
    "CheckpointRule",
    "CredentialsMissing",
    "Environment",
    "Failed",
    "Files",
    "Finding",
    "FtlaunchError",
    "Job",
    "Keep",
    "Lease",
    "LocalFile",
    "LocalTree",
    "Lost",
    "MayStillBill",
    "MetricPattern",
    "Money",
    "Need",
    "Newest",
    "NoCapacity",
    "NotLaunched",
    "Observation",
    "Offer",
    "Options",
    "Phase",
    "Plan",
    "Progress",
    "Refused",
    "RunPath",
    "Secrets",
    "Signal",
    "Step",
    "StopRecipe",
    "Unreachable",
    "Unsupported",
    "Unsure",
]
