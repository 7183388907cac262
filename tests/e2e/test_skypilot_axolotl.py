"""The main job behind SkyPilot, with real axolotl: its own API server, and a real Slurm."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import here_story
import pytest
from clouds.skypilot.rig import Sky
from rented_story import RentedStory, Story, managed_python, told

pytestmark = [
    pytest.mark.axolotl,
    pytest.mark.timeout(3600),
    pytest.mark.slurm,
]

LIVE = Path(__file__).parents[2] / "scripts" / "live.py"


def given(sky: Sky) -> int:
    """Bytes on the clusters' disk of models, data and earlier results, links apart."""
    total = 0
    for folder, _, names in os.walk(sky.home.slurm / "ftlaunch"):
        if {"caches", "inputs"} & set(Path(folder).parts):
            paths = [Path(folder) / name for name in names]
            total += sum(path.lstat().st_size for path in paths if not path.is_symlink())
    return total


class TestSkyPilot(RentedStory):
    """Clusters on Slurm, one for a run."""

    provider = "skypilot"
    # Of a login on one of SkyPilot's clusters, and of this rig's Slurm.
    apart = frozenset({"SKY_CLUSTER_NAME", "SLURM_CONF"})

    @pytest.fixture(scope="class")
    @classmethod
    def story(cls, tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[Story]:
        folder = tmp_path_factory.mktemp("skypilot")
        reference = here_story.shared(tmp_path_factory, worker_id)
        with Sky(folder / "sky", software=managed_python().parent) as sky:
            parts = told(folder, "skypilot", sky, sky.environ, reference)
            story = Story(**parts, given=lambda: given(sky), bills=lambda: bool(sky.allocations()))
            yield story
            story.desk.run("stop", "--now", story.run, timeout=300)

    def secrets(self, story: Story) -> list[str]:
        return [(story.cloud.home.sky / ".slurm" / "key").read_text()]

    @pytest.mark.seldom
    @pytest.mark.steps("live")
    def test_what_make_live_does(self, story: Story, step: str, tmp_path: Path) -> None:
        """`scripts/live.py` as it is, on this Slurm."""
        done = subprocess.run(
            [sys.executable, str(LIVE), "skypilot"],
            env={**os.environ, **story.cloud.environ, "LIVE_GPU": "cpu", "TMPDIR": str(tmp_path)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        said = done.stdout + done.stderr
        assert done.returncode == 0, said
        assert "output/merged/model.safetensors" in said
        assert "it cost about 0." in said
        assert "nothing of it is left at the provider" in said
        assert story.at_rest()
