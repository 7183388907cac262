"""Nobody comes back: a cluster takes itself down, and what was made is there for whoever asks."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from laptops import until
from skypilot_faults.journey import Journey, World

from backends.lease import Phase

pytestmark = [pytest.mark.faults, pytest.mark.slurm, pytest.mark.timeout(2400)]

FULL = os.environ.get("FTLAUNCH_FAULTS") == "full"


@pytest.mark.skipif(not FULL, reason="minutes of waiting: FTLAUNCH_FAULTS=full")
def test_a_cluster_whose_user_is_gone_takes_itself_down(world: World, tmp_path: Path) -> None:
    """The laptop dies when the job runs; what the plan kept is on the disk that outlives it."""
    journey = Journey(world, tmp_path / "case", "made", None)
    with journey.begun(idle_minutes=1) as (made, conductor):
        until("the launch", lambda: made.store.jobs(made.run.id)[0].launched_at, 600)
        conductor.kill()
        conductor.wait()
        assert world.ours()
        until("the end of the cluster", lambda: not world.ours(), 900)
        journey.ask(made, "wait", "toy")
        assert journey.codes == [0], journey.log.read_text()[-2000:]
        outcome = journey.outcome(made)
        assert outcome.problems == []
        phases = [job.phase for job in made.store.jobs(made.run.id)]
        assert phases == [Phase.SUCCEEDED, Phase.SUCCEEDED]
        assert (made.out / "output" / "starts-train").read_text() == "started\n"
