"""Cases: what can be asked of a running job."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from backends import rundir
from backends.lease import Phase, Signal
from backends.plan import CheckpointRule, Step, StopRecipe
from backends.testing import programs
from backends.testing.bench import Bench

_TRAINING: dict[str, Any] = {
    "stop": StopRecipe(touch=("output/save-now",), steps=("only",)),
    "checkpoint": CheckpointRule("output/checkpoint-*", (("weights",), ("last",))),
}


class Signalling:
    """`signal`."""

    def test_stop_keeps_a_checkpoint(self, bench: Bench) -> None:
        """signal: STOP ends within the grace, keeping a complete checkpoint where planned."""
        lease = bench.start(programs.TRAINS, plan=_TRAINING)
        bench.backend.signal(lease, Signal.STOP, grace=timedelta(minutes=2))
        seen = bench.wait(lease)
        assert seen.phase is Phase.STOPPED
        kept = [found for found in rundir.checkpoints(seen.state) if found.complete]
        assert kept, f"no complete checkpoint in {seen.state}"
        step = kept[-1].path.name.rpartition("-")[2]
        assert bench.content(lease.files, kept[-1].path / "last") == step.encode()
        assert bench.content(lease.files, "output/final"), "the step was not let to end in order"

    def test_stop_ends_the_stubborn(self, bench: Bench) -> None:
        """signal: STOP ends a program that hears nothing, too, once the grace is over."""
        lease = bench.start(programs.STUBBORN, plan={"stop": StopRecipe(interrupt=timedelta())})
        bench.backend.signal(lease, Signal.STOP, grace=timedelta(seconds=1))
        assert bench.wait(lease).phase is Phase.STOPPED

    def test_stop_now(self, bench: Bench) -> None:
        """signal: a grace of zero ends it now: nothing is saved, nothing is waited for."""
        lease = bench.start(programs.TRAINS, plan=_TRAINING)
        bench.backend.signal(lease, Signal.STOP, grace=timedelta())
        seen = bench.wait(lease)
        assert seen.phase is Phase.STOPPED
        assert rundir.checkpoints(seen.state) == ()

    def test_stop_is_for_the_whole_job(self, bench: Bench) -> None:
        """signal: STOP ends the job, not only the step that runs."""
        job = bench.job(programs.TRAINS, plan=_TRAINING)
        later = Step("later", bench.argv(programs.MAKES_FILES, '{"later": 1}'))
        lease = bench.launch(replace(job, plan=replace(job.plan, steps=(*job.plan.steps, later))))
        bench.wait_ready(lease)
        bench.backend.signal(lease, Signal.STOP, grace=timedelta(minutes=2))
        assert bench.wait(lease).phase is Phase.STOPPED
        assert bench.content_if_there(lease.files, "output/later") is None

    def test_checkpoint_and_go_on(self, bench: Bench) -> None:
        """signal: CHECKPOINT writes one and goes on."""
        lease = bench.start(programs.TRAINS, plan=_TRAINING)
        bench.backend.signal(lease, Signal.CHECKPOINT, grace=timedelta())

        def complete() -> bool | None:
            seen = bench.backend.observe(lease)
            assert not seen.phase.ended, f"{seen.phase}: {seen.reason}"
            found = rundir.checkpoints(seen.state)
            return True if any(one.complete for one in found) else None

        bench.until("a complete checkpoint", complete)
        assert bench.backend.observe(lease).phase is Phase.RUNNING

    def test_signal_after_the_end(self, bench: Bench) -> None:
        """signal: asking a job that has ended is not an error, and changes nothing."""
        lease = bench.run(programs.HELLO)
        for what in Signal:
            bench.backend.signal(lease, what, grace=timedelta(minutes=1))
        assert bench.backend.observe(lease).phase is Phase.SUCCEEDED
