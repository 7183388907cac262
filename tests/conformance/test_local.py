"""The local backend is held to the contract."""

from __future__ import annotations

import pytest
from rigs import local

from backends.testing import BackendContract, Rig


class TestLocal(BackendContract):
    @pytest.fixture(scope="class")
    @classmethod
    def rig(cls, tmp_path_factory: pytest.TempPathFactory) -> Rig:
        return local(tmp_path_factory.mktemp("the state's \n folder"))
