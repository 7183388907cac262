"""Cases: letting go, and reaching a port of a job that runs."""

from __future__ import annotations

import socket
import urllib.request
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import PurePosixPath

import pytest

from backends.errors import Lost, Refused
from backends.job import Files
from backends.lease import Keep, Lease, Phase
from backends.testing import programs
from backends.testing.bench import READY, Bench
from backends.testing.rig import Trait


class Releasing:
    """`release`, `discard` and `tunnel`."""

    def test_release_ends_the_job(self, bench: Bench) -> None:
        """release: whatever still runs is ended when it returns, children of the job included."""
        bench.need(Trait.HERE)
        with socket.create_server(("127.0.0.1", 0)) as server:
            lease = bench.start(programs.STUBBORN, str(server.getsockname()[1]))
            line, _ = server.accept()
            with line:
                bench.backend.release(lease, keep=Keep.FILES)
                line.settimeout(bench.rig.patience.total_seconds())
                assert line.recv(1) == b"", "a process of the job still holds its connection"
        assert bench.backend.observe(lease).phase.ended

    def test_release_of_a_running_job(self, bench: Bench) -> None:
        """release: afterwards the job is no lease any more, and no success."""
        lease = bench.start(programs.ENDS_LATER, "60")
        bench.backend.release(lease, keep=Keep.FILES)
        assert bench.mine(lease) == []
        assert bench.backend.observe(lease).phase in {Phase.STOPPED, Phase.LOST}

    def test_release_keeps_files(self, bench: Bench) -> None:
        """release: with Keep.FILES the run directory stays readable and its Files are returned."""
        lease = bench.run(programs.MAKES_FILES, '{"result": 3}')
        kept = bench.backend.release(lease, keep=Keep.FILES)
        assert kept is not None
        assert kept.backend == bench.backend.name
        bench.backend = bench.rig.backend()
        assert bench.content(kept, "output/result") == b"result\n" * 3
        assert bench.json(kept, "manifest.json")["verdict"] == "succeeded"

    def test_release_keeps_the_verdict(self, bench: Bench) -> None:
        """release: a job whose files are kept is observed as before."""
        lease = bench.run(programs.HELLO)
        bench.backend.release(lease, keep=Keep.FILES)
        seen = bench.rig.backend().observe(lease)
        assert (seen.phase, seen.exit_code) == (Phase.SUCCEEDED, 0)

    def test_release_keeps_nothing(self, bench: Bench) -> None:
        """release: with Keep.NOTHING the run directory is gone."""
        lease = bench.run(programs.MAKES_FILES, '{"result": 3}')
        assert bench.backend.release(lease, keep=Keep.NOTHING) is None
        with pytest.raises(Lost):
            bench.content(lease.files, "output/result")
        assert bench.mine(lease) == []

    @pytest.mark.parametrize("keep", list(Keep))
    def test_release_again(self, bench: Bench, keep: Keep) -> None:
        """release: again and again is fine, and says the same."""
        lease = bench.run(programs.HELLO)
        first = bench.backend.release(lease, keep=keep)
        assert bench.backend.release(lease, keep=keep) == first
        assert bench.rig.backend().release(lease, keep=keep) == first

    def test_release_in_two_steps(self, bench: Bench) -> None:
        """release: files kept at first can be let go of by releasing again."""
        lease = bench.run(programs.HELLO)
        kept = bench.backend.release(lease, keep=Keep.FILES)
        assert kept is not None
        assert bench.backend.release(lease, keep=Keep.NOTHING) is None
        assert bench.content_if_there(kept, "state.json") is None

    def test_release_of_an_unknown_lease(self, bench: Bench) -> None:
        """release: of a lease that is not there: nothing is raised, nothing is kept."""
        name = bench.new_name()
        files = Files(bench.backend.name, f"{name}.0")
        lease = Lease(bench.backend.name, f"{name}.0", name, files, datetime.now(UTC))
        assert bench.backend.release(lease, keep=Keep.FILES) is None

    def test_release_after_a_power_cut(self, bench: Bench) -> None:
        """release: a lost job's files are kept like any other's: what can be saved is saved."""
        bench.need(Trait.POWER_CUT)
        lease = bench.start(programs.STUBBORN)
        bench.rig.kill(lease)
        assert bench.wait(lease).phase is Phase.LOST
        kept = bench.backend.release(lease, keep=Keep.FILES)
        assert kept is not None
        assert bench.content(kept, READY) == b""
        assert READY in bench.backend.listing(kept)

    def test_billed(self, bench: Bench) -> None:
        """billed: an amount, or None where the bill says nothing; raises nothing."""
        lease = bench.run(programs.HELLO)
        said = [bench.backend.billed(lease), bench.backend.billed(replace(lease, job="nobody-s"))]
        if Trait.SILENCE in bench.rig.supports:
            with bench.rig.silence():
                said.append(bench.rig.backend().billed(lease))
        assert all(one is None or one.amount >= 0 for one in said), said

    def test_discard(self, bench: Bench) -> None:
        """discard: a kept run directory is removed; again and again is fine."""
        lease = bench.run(programs.MAKES_FILES, '{"result": 3}')
        kept = bench.backend.release(lease, keep=Keep.FILES)
        assert kept is not None
        bench.backend.discard(kept)
        bench.backend.discard(kept)
        bench.rig.backend().discard(kept)
        with pytest.raises(Lost):
            bench.content(kept, PurePosixPath("output/result"))

    def test_discard_while_it_runs(self, bench: Bench) -> None:
        """discard: Refused while the job runs, which goes on."""
        lease = bench.start(programs.ENDS_LATER, "60")
        with pytest.raises(Refused):
            bench.backend.discard(lease.files)
        assert bench.backend.observe(lease).phase is Phase.RUNNING
        assert bench.content(lease.files, READY) == b""

    def test_tunnel(self, bench: Bench) -> None:
        """tunnel: reaches a port the job serves on its own loopback."""
        port = _free_port()
        lease = bench.start(programs.SERVES, str(port), ports=(port,))
        with bench.backend.tunnel(lease, port) as address:
            assert address.host in {"127.0.0.1", "::1", "localhost"}
            url = f"http://{address.host}:{address.port}/question"
            with urllib.request.urlopen(url, timeout=30) as answer:
                assert answer.read() == b"from the job: /question"

    def test_tunnel_is_for_this_machine(self, bench: Bench) -> None:
        """tunnel: reachable from this machine only: on no other interface."""
        port = _free_port()
        lease = bench.start(programs.SERVES, str(port), ports=(port,))
        with bench.backend.tunnel(lease, port) as address:
            assert [host for host in _own_addresses() if _answers(host, address.port)] == []

    def test_tunnel_to_an_ended_job(self, bench: Bench) -> None:
        """tunnel: raises Lost when the job has ended."""
        lease = bench.run(programs.HELLO)
        with pytest.raises(Lost), bench.backend.tunnel(lease, 1):
            pass


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _answers(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=2):
            return True
    except OSError:
        return False


def _own_addresses() -> list[str]:
    """Addresses of this machine that are not loopback ones in name, but reach it all the same."""
    found = {"127.0.0.2"}  # on Linux all of 127/8 is this machine: a listener on 0.0.0.0 hears it
    for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET):
        found.add(str(info[4][0]))
    return sorted(found - {"127.0.0.1"})
