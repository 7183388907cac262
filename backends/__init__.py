"""Where jobs run: the protocol, its nouns, and one file per provider.

This package knows nothing of training. It stands on the standard library alone, so that a stranger
can write a backend against it; a provider's SDK is imported inside that provider's file, when used.

`backends.protocol` is the contract; `backends.testing` holds every backend to it.
"""

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
    Plan,
    RunPath,
    Step,
    StopRecipe,
)
from backends.protocol import Backend, Options, Progress

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
