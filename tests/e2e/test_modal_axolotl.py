"""The main job on Modal, with real axolotl: the real SDK, on both sides of a loopback provider.

One story, told in order: a run is launched by one process, its container is killed and preempted on
the way, and another process follows and pulls it; then its model is asked, on what is kept there.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from clouds.modal.cloud import Cloud
from desks import Desk, Ended

from launcher import environment

pytestmark = [pytest.mark.axolotl, pytest.mark.timeout(900)]

RUN = "far"
MORE_STEPS = ("--set", "max_steps=16", "--set", "save_steps=2")


@dataclass(frozen=True)
class Story:
    """A user with an account, and a run that was begun."""

    desk: Desk
    cloud: Cloud
    begun: Ended

    def call(self, kind: str) -> dict[str, Any]:
        """The call of the run's job of that kind."""
        state = self.cloud.state
        (app,) = [app for app in state["apps"] if f"-{RUN}-{kind}-" in app["description"]]
        (call,) = [call for call in state["calls"] if call["app"] == app["id"]]
        return dict(call)

    def files(self, kind: str) -> Path:
        """What is committed of a job."""
        top = self.cloud.volume("ftlaunch-runs")
        (found,) = [path for path in top.iterdir() if f"-{RUN}-{kind}-" in path.name]
        return found

    def checkpoints(self) -> list[str]:
        """Those that were committed as a whole."""
        return sorted(path.stem for path in self.files("train").glob(".whole/output/*.json"))

    def until_checkpoint(self, after: str = "") -> str:
        """Until there is one younger than the one given."""
        end = time.monotonic() + 300
        while time.monotonic() < end:
            found = sorted(self.checkpoints(), key=lambda name: int(name.rpartition("-")[2]))
            if found and found[-1] != after:
                return found[-1]
            time.sleep(0.2)
        raise AssertionError(f"no checkpoint after {after!r}: {self.desk.run('logs', RUN).said}")


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    python = environment.python_of(environment.ensure(environment.choose({}, gpu=False)))
    folder = tmp_path_factory.mktemp("modal")
    (folder / "here").mkdir()
    path = f"{python.parent}:/usr/local/bin:/usr/bin:/bin"
    with Cloud(folder / "cloud", image_env={"PATH": path}) as cloud:
        desk = Desk(folder / "here", folder / "state", cloud.environ)
        argv = ["train", "tiny", "-n", RUN, "-b", "modal", "-g", "cpu", "-y", "-d", *MORE_STEPS]
        yield Story(desk, cloud, desk.run(*argv, "--on-finish", "pause"))
        desk.run("stop", "--now", RUN, timeout=120)


def test_it_goes_on_through_a_death_and_a_preemption(story: Story) -> None:
    assert story.begun.code == 0, story.begun.said
    first = story.until_checkpoint()
    story.cloud.kill(story.call("train")["id"])
    second = story.until_checkpoint(first)
    story.cloud.preempt(story.call("train")["id"], grace=30)
    waited = story.desk.run("wait", RUN)
    assert waited.code == 0, waited.said + story.desk.run("logs", RUN).out
    assert story.call("train")["attempts"] == 3
    log = story.desk.run("logs", RUN, "--step", "train").out
    assert f"[runner] goes on from output/{first}" in log or "goes on from" in log
    assert log.count("goes on from output/checkpoint-") == 2
    assert second != first


def test_its_results_are_here_and_nothing_bills(story: Story) -> None:
    out = story.desk.here / "runs" / RUN / "output"
    assert (out / "adapter_model.safetensors").exists()
    assert (out / "merged" / "model.safetensors").exists()
    assert story.cloud.billing() == []
    facts = story.desk.run("inspect", RUN, "--json").json()
    assert {job["kind"]: job["phase"] for job in facts["jobs"]} == {
        "train": "succeeded",
        "merge": "succeeded",
    }


def test_a_question_is_a_job_of_its_own_and_sends_nothing_again(story: Story) -> None:
    before = _given(story)
    asked = story.desk.run("inference", RUN, "-p", "How many rows?", "-y")
    assert asked.code == 0, asked.said
    assert asked.out.strip()
    assert _given(story) - before < 10_000  # the prompt and the small files of the question
    assert story.cloud.billing() == []


def _given(story: Story) -> int:
    """Bytes that lie on the volumes of models, data and earlier results."""
    caches = story.cloud.volume("ftlaunch-caches").rglob("*")
    inputs = story.cloud.volume("ftlaunch-runs").glob("*/inputs/**/*")
    return sum(path.stat().st_size for path in (*caches, *inputs) if path.is_file())
