"""The SkyPilot backend is held to the contract: its real client, API server and a real Slurm."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import pytest
from sky_rig import OnSky, skypilot

from backends.testing import BackendContract

GUEST = "mine"

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.timeout(600),
    # What SkyPilot is warned of by the libraries it stands on is its own affair.
    *(pytest.mark.filterwarnings(f"ignore::{kind}") for kind in ("DeprecationWarning", "Warning")),
]


class TestSkyPilot(BackendContract):
    """Jobs are guests on one cluster: to make one for each of them would take an hour."""

    backend = "skypilot"
    # What tests/e2e/test_skypilot_axolotl.py does with real axolotl is a step better proven.
    evidence: ClassVar = {
        "*": "E3",
        "launch": "E4",
        "observe": "E4",
        "read": "E4",
        "fetch": "E4",
        "release": "E4",
        "tunnel": "E4",
    }

    @pytest.fixture(scope="class")
    @classmethod
    def rig(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnSky]:
        folder, state = tmp_path_factory.mktemp("sky"), tmp_path_factory.mktemp("the state's")
        with skypilot(folder, state, detail=f"cluster/{GUEST}") as rig:
            rig.provider.make_cluster(GUEST)
            yield rig
