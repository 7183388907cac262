"""What the suite must be told about a backend, and what it may do to it."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from pathlib import Path

from backends.lease import Lease
from backends.offer import Need, Offer
from backends.protocol import Backend, Factory, Options


class Trait(StrEnum):
    """What a rig can do besides running jobs."""

    HERE = "jobs are processes of this machine"
    """The suite looks at their command lines, and they may connect to a port of this machine."""
    POWER_CUT = "a job's machine can be cut off"
    """`Rig.kill` works."""
    SILENCE = "the provider can be made not to answer"
    """`Rig.silence` works."""
    UPLOADS = "what is sent is counted"
    """`Rig.uploaded_bytes` works."""
    NODES = "a job may have several nodes"


@dataclass
class Rig:
    """A backend under test. Override the methods whose trait you claim.

    factory   `package.module:function`, as in the entry point; a new process uses it too
    options   what the factory is given, each time anew: the state is on disk or at the provider
    python    how a job starts Python, 3.9 or newer: a program and its arguments
    patience  how long to wait for what must come; no test is decided by how fast it comes
    """

    factory: str
    options: Options
    python: tuple[str, ...] = (sys.executable, "-S", "-E")
    supports: frozenset[Trait] = frozenset()
    patience: timedelta = field(default=timedelta(seconds=60))

    def backend(self) -> Backend:
        """A fresh object, as a new process would have."""
        return make(self.factory, self.options)

    def offer(self) -> Offer:
        """What the suite's jobs run on: the cheapest there is."""
        return self.backend().offers(Need(), live=False)[0]

    def places(self) -> Sequence[Path]:
        """Where on this machine something of a job may have been written."""
        return (self.options.state_dir,)

    def uploaded_bytes(self) -> int:
        """How many bytes of inputs and caches have been sent so far, since any moment."""
        raise NotImplementedError

    def kill(self, lease: Lease) -> None:
        """End everything that works on the job at once, as a power cut would."""
        raise NotImplementedError

    def silence(self) -> contextlib.AbstractContextManager[None]:
        """While entered, the provider does not answer."""
        raise NotImplementedError


def make(factory: str, options: Options) -> Backend:
    """The backend that `package.module:function` makes."""
    module, _, name = factory.partition(":")
    function: Factory = getattr(importlib.import_module(module), name)
    return function(options)
