"""The Modal backend is held to the contract: its real SDK, and a loopback control plane."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from modal_rig import OnModal, modal

from backends.lease import Phase
from backends.testing import BackendContract, programs
from backends.testing.bench import Bench


class TestModal(BackendContract):
    """The provider is ours; the SDK, on both sides, is not."""

    backend = "modal"
    evidence: ClassVar = {"*": "E2"}

    @pytest.fixture(scope="class")
    @classmethod
    def rig(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnModal]:
        folder = tmp_path_factory.mktemp("cloud")
        with modal(folder, tmp_path_factory.mktemp("the state's \n folder")) as rig:
            yield rig


@pytest.mark.parametrize("status", ["INTERNAL", "UNAUTHENTICATED", "RESOURCE_EXHAUSTED"])
def test_a_question_that_fails_is_no_verdict(tmp_path: Path, status: str) -> None:
    """A job that runs is never called lost because Modal could not be asked."""
    with modal(tmp_path / "cloud", tmp_path / "state") as rig:
        bench = Bench(rig, tmp_path / "here")
        lease = bench.start(programs.STUBBORN)
        rig.provider.fail("FunctionGetOutputs", "refuse", status=status, times=None)
        assert bench.backend.observe(lease).phase is Phase.UNKNOWN
        rig.provider.forgive()
        assert bench.backend.observe(lease).phase is Phase.RUNNING
        bench.clean()
