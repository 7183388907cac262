"""Cases: what a look at a job says, and that a verdict stays."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from backends.job import Files
from backends.lease import Lease, Phase, Signal
from backends.offer import Money
from backends.plan import Plan, Step
from backends.testing import programs
from backends.testing.bench import Bench
from backends.testing.rig import Trait


class Observing:
    """`observe`."""

    def test_phases(self, bench: Bench) -> None:
        """observe: queued or starting, then running, then the verdict; no exit code before it."""
        lease = bench.launch(bench.job(programs.ENDS_LATER, "1"))
        seen = [bench.backend.observe(lease)]
        while not seen[-1].phase.ended:
            seen.append(bench.until("an observation", lambda: bench.backend.observe(lease)))
        order = [Phase.QUEUED, Phase.STARTING, Phase.RUNNING, Phase.SUCCEEDED]
        places = [order.index(one.phase) for one in seen]
        assert places == sorted(places)
        assert Phase.RUNNING in {one.phase for one in seen}
        assert all(one.exit_code is None for one in seen[:-1])
        assert seen[-1].exit_code == 0

    def test_exit_code(self, bench: Bench) -> None:
        """observe: the exit code is that of the step that decided; no step after it runs."""
        steps = (
            Step("first", bench.argv(programs.HELLO)),
            Step("second", bench.argv(programs.EXITS, "7")),
            Step("third", bench.argv(programs.MAKES_FILES, '{"third": 1}')),
        )
        lease = bench.launch(replace(bench.job(programs.HELLO), plan=Plan(steps)))
        seen = bench.wait(lease)
        assert (seen.phase, seen.exit_code) == (Phase.FAILED, 7)
        assert seen.reason
        assert bench.content_if_there(lease.files, "output/third") is None

    def test_killed_step(self, bench: Bench) -> None:
        """observe: a step that died of signal n has exit code 128 + n."""
        seen = bench.wait(bench.launch(bench.job(programs.KILLS_ITSELF)))
        assert (seen.phase, seen.exit_code) == (Phase.FAILED, 128 + 9)

    def test_no_such_program(self, bench: Bench) -> None:
        """observe: a command that cannot be started is a failed job, not a lost one."""
        plan = Plan((Step("only", ("no such program anywhere",)),))
        lease = bench.launch(replace(bench.job(programs.HELLO), plan=plan))
        seen = bench.wait(lease)
        assert seen.phase is Phase.FAILED
        assert seen.exit_code not in {None, 0}

    def test_verdict_stays(self, bench: Bench) -> None:
        """observe: a verdict once given does not change."""
        lease = bench.launch(bench.job(programs.EXITS, "3"))
        first = bench.wait(lease)
        assert (first.phase, first.exit_code) == (Phase.FAILED, 3)
        bench.backend.signal(lease, Signal.STOP, grace=timedelta())
        for _ in range(3):
            again = bench.rig.backend().observe(lease)
            assert (again.phase, again.exit_code) == (first.phase, first.exit_code)

    def test_state_is_the_runner_s(self, bench: Bench) -> None:
        """observe: `state` is the runner's own, and names the job."""
        lease = bench.run(programs.HELLO)
        state = bench.backend.observe(lease).state
        assert state is not None
        assert state["job"] == lease.job
        assert state["phase"] == "succeeded"

    def test_log_is_readable(self, bench: Bench) -> None:
        """observe: what a step prints is in the log segments the state counts."""
        lease = bench.run(programs.HELLO)
        state = bench.backend.observe(lease).state
        assert state is not None
        assert state["steps"][0]["segments"] >= 1
        assert bench.content(lease.files, "logs/only/000001.log").endswith(b" hello\n")

    def test_cost(self, bench: Bench) -> None:
        """observe: the cost so far is money or None; it does not go down."""
        lease = bench.start(programs.ENDS_LATER, "60")
        costs = [bench.backend.observe(lease).cost for _ in range(3)]
        for cost in costs:
            assert cost is None or isinstance(cost, Money)
        amounts = [cost.amount for cost in costs if cost is not None]
        assert amounts == sorted(amounts)
        assert all(amount >= 0 for amount in amounts)

    def test_deadline(self, bench: Bench) -> None:
        """observe: a job past its deadline is ended and EXPIRED, whoever looks or does not."""
        lease = bench.launch(bench.job(programs.ENDS_LATER, "60", deadline=timedelta(seconds=1)))
        seen = bench.wait(lease)
        assert seen.phase is Phase.EXPIRED
        assert bench.content_if_there(lease.files, "output/done") is None

    def test_step_time_out(self, bench: Bench) -> None:
        """observe: a step past its time-out ends the job as EXPIRED."""
        step = {"timeout": timedelta(seconds=1)}
        seen = bench.wait(bench.launch(bench.job(programs.ENDS_LATER, "60", step=step)))
        assert seen.phase is Phase.EXPIRED

    def test_lost(self, bench: Bench) -> None:
        """observe: LOST when nobody works on the job any more and none left a verdict."""
        bench.need(Trait.POWER_CUT)
        lease = bench.start(programs.STUBBORN)
        bench.rig.kill(lease)
        seen = bench.wait(lease)
        assert (seen.phase, seen.exit_code) == (Phase.LOST, None)
        assert seen.reason
        assert lease.id not in {found.id for found in bench.rig.backend().leases()}
        assert bench.content(lease.files, "output/ready") == b""

    def test_silence_is_not_an_end(self, bench: Bench) -> None:
        """observe: UNKNOWN when the provider does not answer: never a guess."""
        bench.need(Trait.SILENCE)
        lease = bench.start(programs.ENDS_LATER, "60")
        with bench.rig.silence():
            assert bench.rig.backend().observe(lease).phase is Phase.UNKNOWN
        assert bench.rig.backend().observe(lease).phase is Phase.RUNNING

    def test_unknown_lease(self, bench: Bench) -> None:
        """observe: of a lease nobody knows: LOST or UNKNOWN, and nothing is raised."""
        name = bench.new_name()
        files = Files(bench.backend.name, f"{name}.0")
        lease = Lease(bench.backend.name, f"{name}.0", name, files, datetime.now(UTC))
        assert bench.backend.observe(lease).phase in {Phase.LOST, Phase.UNKNOWN}
