"""The Modal backend is held to the contract: its real SDK, and a loopback control plane."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import pytest
from modal_rig import OnModal, modal

from backends.testing import BackendContract


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
