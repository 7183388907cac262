"""All cases together, and the fixtures they work with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

import pytest

from backends.testing.bench import Bench
from backends.testing.files import FilesOfAJob
from backends.testing.inputs import Inputs
from backends.testing.launching import Launching
from backends.testing.looking import Looking
from backends.testing.observing import Observing
from backends.testing.releasing import Releasing
from backends.testing.rig import Rig
from backends.testing.signalling import Signalling


class BackendContract(Looking, Launching, Inputs, Observing, Signalling, FilesOfAJob, Releasing):
    """Subclass this, give it a `rig` of class scope, and your backend is held to the contract.

    evidence  how each verb is proven by this class (E1 to E5, `docs/backends.md`); "*" stands for
              every verb not named. What the tests of a built-in backend say here is in its docs.
    """

    backend: ClassVar[str] = ""
    evidence: ClassVar[Mapping[str, str]] = {}

    @pytest.fixture(scope="class")
    @classmethod
    def rig(cls) -> Rig:
        """What is tested. Override it, with the same scope: one rig serves all cases of a class."""
        raise NotImplementedError("override the fixture `rig`")

    @pytest.fixture
    def bench(self, rig: Rig, tmp_path: Path) -> Iterator[Bench]:
        """Where a case works; what it launched is let go of afterwards."""
        bench = Bench(rig, tmp_path / "here")
        yield bench
        bench.clean()
