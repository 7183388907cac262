"""The main job behind SkyPilot, with real axolotl: its own API server, and a real Slurm."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import here_story
import pytest
from clouds.skypilot.rig import Sky
from rented_story import RentedStory, Story, managed_python, told

pytestmark = [
    pytest.mark.axolotl,
    pytest.mark.timeout(1200),
    pytest.mark.slurm,
]


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

    # Each takes a cluster of its own, and minutes: not told here yet.
    test_a_merge_goes_back_to_what_the_provider_holds = None  # type: ignore[assignment]
    test_many_prompts_are_answered_there = None  # type: ignore[assignment]
    test_a_chat_goes_through_a_private_tunnel = None  # type: ignore[assignment]
    test_a_page_goes_through_a_private_tunnel = None  # type: ignore[assignment]

    def secrets(self, story: Story) -> list[str]:
        return [(story.cloud.home.sky / ".slurm" / "key").read_text()]
