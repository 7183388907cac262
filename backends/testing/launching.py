"""Cases: a job starts once, and goes on without its launcher."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import PurePosixPath

import pytest

from backends.errors import NotLaunched, Refused, Unsupported
from backends.job import Attached, Files, Job, LocalFile, LocalTree
from backends.lease import Keep, Lease, Phase
from backends.protocol import silent
from backends.testing import child, programs
from backends.testing.bench import Bench
from backends.testing.rig import Trait


class Launching:
    """`launch` and `leases`."""

    def test_launcher_dies(self, bench: Bench) -> None:
        """launch: a return guarantees that the job goes on if this process dies now."""
        job = child.one_step(bench.new_name(), bench.argv(programs.ENDS_LATER, "1"))
        died = child.run(bench.rig, do="launch", job=job.name, argv=job.plan.steps[0].argv)
        assert died.returncode == -9, died.stderr.decode()
        lease = child.printed_lease(died)
        bench.remember(lease)
        assert bench.wait(lease).phase is Phase.SUCCEEDED
        assert bench.content(lease.files, "output/starts") == b"started\n"
        assert bench.content(lease.files, "output/done") == b"done"

    def test_launcher_dies_at_the_lease(self, bench: Bench) -> None:
        """launch: a launch that was cut short is found by its name or can be done again, once."""
        job = child.one_step(bench.new_name(), bench.argv(programs.ENDS_LATER, "0"))
        died = child.run(bench.rig, do="launch-cut", job=job.name, argv=job.plan.steps[0].argv)
        assert died.returncode == -9, died.stderr.decode()
        lease = bench.launch(job)
        assert bench.wait(lease).phase is Phase.SUCCEEDED
        assert bench.content(lease.files, "output/starts") == b"started\n"
        assert len(bench.mine(lease)) <= 1

    def test_lease_is_told_at_once(self, bench: Bench) -> None:
        """launch: `on_lease` is called the moment an id exists, with the lease that is returned."""
        told: list[tuple[Lease, Phase, list[str]]] = []

        def look(lease: Lease) -> None:
            bench.remember(lease)
            other = bench.rig.backend()
            told.append((lease, other.observe(lease).phase, [x.job for x in other.leases()]))

        job = bench.job(programs.ENDS_LATER, "60")
        lease = bench.backend.launch(job, bench.rig.offer(), on_lease=look, progress=silent)
        assert told, "on_lease was not called"
        early, phase, names = told[0]
        assert (early.id, early.job) == (lease.id, job.name)
        assert not phase.ended, f"a job being launched was seen as {phase}"
        assert job.name in names, "a job being launched was not among the leases"

    def test_lease_is_told_before_work(self, bench: Bench) -> None:
        """launch: `on_lease` is called before anything else can fail: before inputs are sent."""
        order: list[str] = []

        def told(lease: Lease) -> None:
            bench.remember(lease)
            order.append("lease")

        data = bench.file("data", b"planned")
        data.here.write_bytes(b"PLANNED")
        job = bench.job(programs.HELLO, inputs=(LocalTree((data,)),))
        with pytest.raises((NotLaunched, Refused)):
            bench.backend.launch(job, bench.rig.offer(), on_lease=told, progress=silent)
        assert order in ([], ["lease"])
        good = bench.job(programs.HELLO, inputs=(LocalTree((bench.file("d2", b"x" * 4096),)),))

        def progress(what: str, *, done: int | None = None, total: int | None = None) -> None:
            del what, total
            order.append("progress" if done else "beginning")

        order.clear()
        bench.backend.launch(good, bench.rig.offer(), on_lease=told, progress=progress)
        assert "lease" in order, "on_lease was not called"
        assert "progress" not in order[: order.index("lease")]

    def test_same_name_is_same_lease(self, bench: Bench) -> None:
        """launch: launching a name that this backend already runs returns the lease it has."""
        job = bench.job(programs.ENDS_LATER, "60")
        first = bench.launch(job)
        bench.wait_ready(first)
        bench.backend = bench.rig.backend()
        second = bench.launch(job)
        assert second == first
        assert [lease.id for lease in bench.mine(first)] == [first.id]
        assert bench.content(first.files, "output/starts") == b"started\n"

    def test_ended_name_is_not_run_again(self, bench: Bench) -> None:
        """launch: a job that has ended is not run again: its name returns the lease it has."""
        job = bench.job(programs.ENDS_LATER, "0")
        first = bench.launch(job)
        assert bench.wait(first).phase is Phase.SUCCEEDED
        bench.backend = bench.rig.backend()
        assert bench.launch(job) == first
        assert bench.content(first.files, "output/starts") == b"started\n"

    def test_kept_name_is_taken(self, bench: Bench) -> None:
        """launch: a name that was released, and whose files are kept, is NotLaunched."""
        job = bench.job(programs.ENDS_LATER, "0")
        first = bench.launch(job)
        bench.wait(first)
        kept = bench.backend.release(first, keep=Keep.FILES)
        assert kept is not None
        with pytest.raises(NotLaunched) as caught:
            bench.launch(job)
        assert job.name in caught.value.message
        assert bench.content(kept, "output/starts") == b"started\n"

    def test_two_at_once(self, bench: Bench) -> None:
        """launch: two who launch one name at the same time get one job."""
        job = bench.job(programs.ENDS_LATER, "60")

        def go(_: int) -> Lease:
            return bench.rig.backend().launch(
                job, bench.rig.offer(), on_lease=bench.remember, progress=silent
            )

        with ThreadPoolExecutor(2) as pool:
            first, second = pool.map(go, range(2))
        assert first.id == second.id
        bench.wait_ready(first)
        assert bench.content(first.files, "output/starts") == b"started\n"

    def test_a_lease_can_be_written_down(self, bench: Bench) -> None:
        """lease: `data` and the files' `data` are strings only; a new process goes on with it."""
        lease = bench.start(programs.ENDS_LATER, "60")
        for data in (lease.data, lease.files.data):
            assert json.loads(json.dumps(dict(data))) == dict(data)
            assert all(isinstance(value, str) for value in data.values())
        assert lease.created_at.tzinfo is not None
        assert lease.backend == lease.files.backend == bench.backend.name
        files = Files(lease.files.backend, lease.files.id, dict(lease.files.data))
        again = replace(lease, files=files, data=dict(lease.data))
        assert bench.rig.backend().observe(again).phase is Phase.RUNNING

    def test_leases_are_the_living(self, bench: Bench) -> None:
        """leases: everything that may still bill, whoever started it; not what has ended."""
        living = bench.start(programs.ENDS_LATER, "60")
        ended = bench.run(programs.HELLO)
        bench.backend.release(ended, keep=Keep.FILES)
        found = {lease.id: lease for lease in bench.rig.backend().leases()}
        assert found.get(living.id) == living
        assert ended.id not in found

    @pytest.mark.parametrize("how", ["missing", "changed", "shorter", "folder"])
    def test_input_is_not_what_was_planned(self, bench: Bench, how: str) -> None:
        """launch: raises NotLaunched, Unsure or Refused, and nothing else; then nothing runs."""
        file = bench.file("data", b"planned")
        _spoil(file, how)
        job = bench.job(programs.ENDS_LATER, "60", inputs=(LocalTree((file,)),))
        with pytest.raises((NotLaunched, Refused)) as caught:
            bench.launch(job)
        assert caught.value.message
        assert job.name not in {lease.job for lease in bench.rig.backend().leases()}
        good = replace(job, inputs=(LocalTree((bench.file("data again", b"planned"),)),))
        bench.wait_ready(bench.launch(good))

    def test_files_of_another_backend(self, bench: Bench) -> None:
        """launch: what a backend cannot hold it answers with Unsupported and a sentence."""
        foreign = Attached(Files("somewhere-else", "id"), PurePosixPath("inputs/other"))
        _refused(bench, bench.job(programs.HELLO, inputs=(foreign,)))

    def test_a_secret_that_nobody_keeps(self, bench: Bench) -> None:
        """launch: a job that asks for a kept secret which is not there is Refused; nothing runs."""
        job = bench.job(programs.HELLO, kept_secrets=("no-such-secret",))
        with pytest.raises(Refused) as caught:
            bench.launch(job)
        assert "no-such-secret" in caught.value.message
        assert job.name not in {lease.job for lease in bench.rig.backend().leases()}

    def test_more_nodes_than_it_has(self, bench: Bench) -> None:
        """launch: a job of more nodes than the backend can hold is Unsupported."""
        if Trait.NODES in bench.rig.supports:
            pytest.skip("this backend has several nodes")
        _refused(bench, bench.job(programs.HELLO, nodes=2))


def _refused(bench: Bench, job: Job) -> None:
    with pytest.raises(Unsupported) as caught:
        bench.launch(job)
    assert " " in caught.value.message
    assert job.name not in {lease.job for lease in bench.rig.backend().leases()}


def _spoil(file: LocalFile, how: str) -> None:
    match how:
        case "changed":
            file.here.write_bytes(b"PLANNED")
        case "shorter":
            file.here.write_bytes(b"")
        case "missing":
            file.here.unlink()
        case _:
            file.here.unlink()
            file.here.mkdir()
