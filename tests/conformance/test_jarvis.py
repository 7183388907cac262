"""The Jarvis Labs backend is held to the contract: its real SDK, a loopback provider, real ssh."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import ClassVar

import pytest
from jarvis_rig import OnJarvis, jarvis
from jarvislabs import Client

from backends import rundir
from backends.errors import Lost, MayStillBill, Refused
from backends.jarvis.backend import Jarvis
from backends.job import Attached, LocalTree
from backends.lease import Keep, Lease, Phase
from backends.protocol import silent
from backends.ssh.workplace import Workplace
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

    def test_somebody_woke_it_at_the_dashboard(self, rig: OnJarvis, bench: Bench) -> None:
        lease = bench.run(programs.HELLO)
        kept = bench.backend.release(lease, keep=Keep.FILES)
        assert kept is not None
        name = lease.data["name"]
        with Client(rig.provider.key) as client:
            client.instances.resume(rig.provider.machine(name).id)
        bench.until("the machine", lambda: rig.provider.machine(name).status == "Running" or None)
        assert bench.backend.release(lease, keep=Keep.FILES) == kept
        assert rig.provider.machine(name).status == "Paused", "it bills, and was called let go of"

    def test_another_computer_works_on_it(self, rig: OnJarvis, bench: Bench) -> None:
        """Two may finish one run, and the next job of it runs on the machine of the first."""
        lease = bench.run(programs.HELLO)
        name = lease.data["name"]
        backend = rig.backend()
        assert isinstance(backend, Jarvis)
        box = backend._records.of_job(lease.job)
        assert box is not None
        mine = backend._reach.workplace(box)
        theirs = Workplace(mine.host, mine.root, by="another computer")
        job = bench.job(programs.STUBBORN)
        theirs.lay(job, told=silent)
        assert mine.jobs()[job.name].works, "what is being laid out is not seen"
        theirs.start(job, {})
        assert bench.backend.release(lease, keep=Keep.NOTHING) is None
        assert rig.provider.machine(name).status == "Running", "their job was ended with it"
        assert [found.job for found in bench.backend.leases()] == [name]
        assert theirs.jobs()[job.name].works
        rig.provider.dashboard_destroy(rig.provider.machine(name).id)

    def test_a_launch_beside_that_fails_ends_nothing_else(
        self, rig: OnJarvis, bench: Bench
    ) -> None:
        """The machine bears the name of the job that failed, and is not taken for another."""
        lease = bench.run(programs.HELLO)
        after = bench.job(
            programs.HELLO,
            inputs=(
                Attached(lease.files, PurePosixPath("inputs/earlier")),
                LocalTree((bench.file("gone", b"x"),)),
            ),
        )
        (bench.folder / "gone").unlink()
        found: list[Lease] = []
        with pytest.raises(Refused):
            bench.backend.launch(after, rig.offer(), on_lease=found.append, progress=silent)
        for failed in found:
            assert bench.backend.release(failed, keep=Keep.FILES) is None
        assert [one.id for one in bench.backend.leases()] == [lease.id]
        running = [m for m in rig.provider.machines if not m.gone]
        assert [machine.status for machine in running] == ["Running"]

    def test_a_look_while_it_comes_up_leaves_it_alone(self, rig: OnJarvis, bench: Bench) -> None:
        """Whoever follows a run reads its state before there is one."""
        leases: list[Lease] = []
        looks: list[threading.Thread] = []

        why: list[str] = []

        def read() -> None:
            try:
                bench.content(leases[0].files, rundir.STATE)
            except Lost as error:
                why.append(error.message)

        def look(what: str, *, done: int | None = None, total: int | None = None) -> None:
            del done, total
            if what.startswith("waiting for") and not looks:
                looks.append(threading.Thread(target=read))
                looks[0].start()

        job = bench.job(programs.HELLO)
        lease = bench.backend.launch(job, rig.offer(), on_lease=leases.append, progress=look)
        bench.remember(lease)
        looks[0].join()
        assert "it is being made" in why[0], "it was called gone"
        assert bench.wait(lease).phase is Phase.SUCCEEDED
        assert rig.provider.machine(lease.data["name"]).status == "Running"

    def test_its_jobs_share_its_bill(self, rig: OnJarvis, bench: Bench) -> None:
        """What a machine has cost before a job came to it is not that job's."""
        first = bench.run(programs.HELLO)
        time.sleep(1)
        beside = Attached(first.files, PurePosixPath("inputs/earlier"))
        second = bench.run(programs.HELLO, inputs=(beside,))
        costs = [bench.backend.observe(lease).cost for lease in (first, second)]
        assert costs[0] is not None
        assert costs[1] is not None
        assert 0 <= costs[1].amount < costs[0].amount
