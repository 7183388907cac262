"""The local backend is held to the contract."""

from __future__ import annotations

from typing import ClassVar

import pytest
from rigs import local

from backends.testing import BackendContract, Rig


class TestLocal(BackendContract):
    """The provider is this machine itself, so this is the live one; axolotl is in tests/e2e."""

    backend = "local"
    evidence: ClassVar = {"*": "E5"}

    @pytest.fixture(scope="class")
    @classmethod
    def rig(cls, tmp_path_factory: pytest.TempPathFactory) -> Rig:
        return local(tmp_path_factory.mktemp("the state's \n folder"))
