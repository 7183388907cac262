"""The Jarvis Labs backend is held to the contract: its real SDK, a loopback provider, real ssh."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from jarvis_rig import OnJarvis, jarvis

from backends import rundir
from backends.errors import Lost, MayStillBill
from backends.lease import Keep, Phase
from backends.testing import BackendContract, programs
from backends.testing.bench import READY, Bench


class TestJarvis(BackendContract):
    """The provider is ours; the SDK, ssh and sshd are not."""

    backend = "jarvis"
    # What tests/e2e/test_jarvis_axolotl.py does with real axolotl is a step better proven.
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
    def rig(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnJarvis]:
        folder = tmp_path_factory.mktemp("cloud")
        with jarvis(folder, tmp_path_factory.mktemp("the state's \n folder")) as rig:
            yield rig


class TestWhatBills:
    """What is a lease when a machine outlives its job: the contract's cases do not go there."""

    @pytest.fixture
    def rig(self, tmp_path: Path) -> Iterator[OnJarvis]:
        with jarvis(tmp_path / "cloud", tmp_path / "state") as rig:
            yield rig

    @pytest.fixture
    def bench(self, rig: OnJarvis, tmp_path: Path) -> Iterator[Bench]:
        bench = Bench(rig, tmp_path / "here")
        yield bench
        bench.clean()

    def test_its_machine_runs_on(self, rig: OnJarvis, bench: Bench) -> None:
        lease = bench.start(programs.STUBBORN)
        rig.provider.cut(rig.provider.machine(lease.data["name"]).id)
        assert bench.wait(lease).phase is Phase.LOST
        assert bench.mine(lease) == [lease], "the machine bills, and is no lease"
        assert bench.content(lease.files, READY) == b""
        kept = bench.backend.release(lease, keep=Keep.FILES)
        assert kept is not None
        assert bench.mine(lease) == []
        assert rig.provider.machine(lease.data["name"]).status == "Paused"
        assert bench.content(kept, READY) == b""

    def test_its_machine_was_taken(self, rig: OnJarvis, bench: Bench) -> None:
        lease = bench.start(programs.STUBBORN)
        rig.kill(lease)
        assert bench.wait(lease).phase is Phase.LOST
        assert rig.provider.machine(lease.data["name"]).status == "Paused", "a look left it awake"
        assert bench.mine(lease) == []
        into = bench.folder / "fetched"
        bench.backend.fetch(lease.files, [READY], into)
        assert (into / READY).read_bytes() == b""
        assert rig.provider.machine(lease.data["name"]).status == "Paused", "a fetch left it awake"
        bench.backend.discard(lease.files)
        with pytest.raises(Lost):
            bench.content(lease.files, READY)

    def test_a_machine_that_could_not_be_paused_again(self, rig: OnJarvis, bench: Bench) -> None:
        lease = bench.run(programs.HELLO)
        kept = bench.backend.release(lease, keep=Keep.FILES)
        assert kept is not None
        rig.provider.fail("POST", "misc/pause.*", 500, times=None)
        with pytest.raises(MayStillBill):
            bench.backend.fetch(kept, [rundir.MANIFEST], bench.folder / "fetched")
        assert [found.id for found in bench.mine(lease)] == [lease.id]
        rig.provider.forgive()
        assert bench.backend.release(lease, keep=Keep.FILES) == kept
        assert rig.provider.machine(lease.data["name"]).status == "Paused"
        assert bench.mine(lease) == []
