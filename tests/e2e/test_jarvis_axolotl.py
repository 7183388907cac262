"""The main job on Jarvis Labs, with real axolotl: the real SDK, real sshds, a loopback provider."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import here_story
import pytest
from clouds.jarvis.cloud import Cloud
from jarvis_axolotl import cloud_with_axolotl, variables
from rented_story import RentedStory, Story, managed_python, told

pytestmark = [pytest.mark.axolotl, pytest.mark.timeout(900)]

FRESH = "fresh-jarvis"


def given(cloud: Cloud) -> int:
    """Bytes on the provider's disks of models, data and earlier results, links apart."""
    total = 0
    for folder, _, names in os.walk(cloud.folder):
        if {"caches", "inputs"} & set(Path(folder).parts):
            paths = [Path(folder) / name for name in names]
            total += sum(path.lstat().st_size for path in paths if not path.is_symlink())
    return total


def bills(cloud: Cloud) -> bool:
    """Whether a machine bills for more than its disk."""
    return any(m.gone is None and m.status != "Paused" for m in cloud.machines)


def created(story: Story) -> int:
    """How many machines were asked for."""
    return sum(r.path.endswith("/create") and "cpu" in r.path for r in story.cloud.requests)


class TestJarvis(RentedStory):
    """Containers with axolotl's template."""

    provider = "jarvis"

    @pytest.fixture(scope="class")
    @classmethod
    def story(cls, tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[Story]:
        folder = tmp_path_factory.mktemp("jarvis")
        reference = here_story.shared(tmp_path_factory, worker_id)
        with cloud_with_axolotl(folder / "cloud", managed_python()) as cloud:
            parts = told(folder, "jarvis", cloud, variables(cloud), reference)
            story = Story(**parts, given=lambda: given(cloud), bills=lambda: bills(cloud))
            yield story
            for run in (story.run, FRESH):
                story.desk.run("stop", "--now", run, timeout=120)

    def secrets(self, story: Story) -> list[str]:
        return [story.cloud.key]

    def test_one_machine_was_rented_for_all_of_it(self, story: Story, step: str) -> None:
        assert created(story) == 1

    @pytest.mark.steps("inference")
    @pytest.mark.seldom
    def test_with_nothing_held_what_was_pulled_is_sent(self, story: Story, step: str) -> None:
        made = created(story)
        argv = ["train", "tiny", "-n", FRESH, "-b", "jarvis", "-g", "cpu", "-y", "--no-merge"]
        argv += ["--set=test_datasets=null", "--set=eval_steps=null"]
        trained = story.desk.run(*argv)
        assert trained.code == 0, trained.said
        assert [m.status for m in story.cloud.machines if m.gone is None] == ["Paused"]
        before = story.given()
        ended = story.desk.run("inference", FRESH, "-p", "one")
        assert ended.code == 0, ended.said
        assert created(story) == made + 2
        assert story.given() == before, "what was sent is gone with its machine"
        assert story.at_rest()

    @pytest.mark.steps("local-inference")
    def test_what_was_trained_there_is_asked_here(self, story: Story, step: str) -> None:
        made = created(story)
        ended = story.desk.run("inference", story.run, "-b", "local", "-p", "one")
        assert ended.code == 0, ended.said
        assert created(story) == made
        assert [m.status for m in story.cloud.machines if m.gone is None] == ["Paused"]
