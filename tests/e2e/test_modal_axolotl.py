"""The main job on Modal, with real axolotl: the real SDK, on both sides of a loopback provider."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import here_story
import pytest
from clouds.modal.cloud import Cloud
from rented_story import RentedStory, Story, managed_python, told

pytestmark = [pytest.mark.axolotl, pytest.mark.timeout(900)]

HURT, HALTED = "hurt-modal", "halted-modal"
LONGER = {"max_steps": 300, "save_steps": 5, "test_datasets": "null", "eval_steps": "null"}
NO_KERNELS = dict.fromkeys(("lora_mlp_kernel", "lora_qkv_kernel", "lora_o_kernel"), "false")
"""There is no GPU in a loopback container, whatever it is billed for."""
CERTIFICATES_S = ("CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_DIR", "SSL_CERT_FILE")


def given(cloud: Cloud) -> int:
    """Bytes on the volumes of models, data and earlier results."""
    caches = cloud.volume("ftlaunch-caches").rglob("*")
    inputs = cloud.volume("ftlaunch-runs").glob("*/inputs/**/*")
    return sum(path.stat().st_size for path in (*caches, *inputs) if path.is_file())


def call(cloud: Cloud, run: str, kind: str) -> dict[str, Any]:
    """The call of a run's job of that kind."""
    state = cloud.state
    (app,) = [app for app in state["apps"] if f"-{run}-{kind}-" in app["description"]]
    (found,) = [call for call in state["calls"] if call["app"] == app["id"]]
    return dict(found)


def gpus(cloud: Cloud) -> list[tuple[str, str]]:
    """Which app had which kind of GPU."""
    state = cloud.state
    names = {app["id"]: app["description"] for app in state["apps"]}
    return [(names[span["app"]], span["gpu"]) for span in state["spans"]]


def checkpoint(story: Story, after: str = "", run: str = HURT) -> str:
    """The youngest that was committed as a whole, once it is another one."""
    end = time.monotonic() + 300
    while time.monotonic() < end:
        cloud: Cloud = story.cloud
        lists = cloud.volume("ftlaunch-runs").glob(f"*-{run}-train-*/.whole/output/*.json")
        found = sorted((path.stem for path in lists), key=lambda name: int(name.split("-")[-1]))
        if found and found[-1] != after:
            return found[-1]
        time.sleep(0.2)
    raise AssertionError(f"no checkpoint after {after!r}: {story.desk.run('logs', run).said}")


def resumed(story: Story) -> None:
    """Until the log on the volume says that a checkpoint was gone on from."""
    cloud: Cloud = story.cloud
    end = time.monotonic() + 300
    logs = f"*-{HURT}-train-*/logs/train/*.log"
    while not any(
        b"goes on from" in log.read_bytes() for log in cloud.volume("ftlaunch-runs").glob(logs)
    ):
        assert time.monotonic() < end, story.desk.run("logs", HURT).said
        time.sleep(0.2)


class TestModal(RentedStory):
    """Containers, each one a call's attempt."""

    provider = "modal"
    # Of a container; what begins with `MODAL_` is taken out before a job sees it.
    apart = frozenset({"LC_ALL", "TZ", "NO_PROXY", *CERTIFICATES_S})

    @pytest.fixture(scope="class")
    @classmethod
    def story(cls, tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[Story]:
        folder = tmp_path_factory.mktemp("modal")
        reference = here_story.shared(tmp_path_factory, worker_id)
        path = f"{managed_python().parent}:/usr/local/bin:/usr/bin:/bin"
        with Cloud(folder / "cloud", image_env={"PATH": path}) as cloud:
            parts = told(folder, "modal", cloud, cloud.environ, reference)
            story = Story(**parts, given=lambda: given(cloud), bills=lambda: bool(cloud.billing()))
            yield story
            for run in (story.run, HURT, HALTED):
                story.desk.run("stop", "--now", run, timeout=120)

    def secrets(self, story: Story) -> list[str]:
        return [story.cloud.token_secret]

    @pytest.mark.steps("train")
    def test_it_goes_on_through_a_death_and_a_preemption(self, story: Story, step: str) -> None:
        """With a GPU, which is taken for the training only."""
        sets = [f"--set={key}={value}" for key, value in (LONGER | NO_KERNELS).items()]
        begun = story.desk.run("train", "tiny", "-n", HURT, "-b", "modal", "-g", "T4", "-yd", *sets)
        assert begun.code == 0, begun.said
        checkpoint(story)
        story.cloud.kill(call(story.cloud, HURT, "train")["id"])
        resumed(story)
        checkpoint(story, after=checkpoint(story))
        story.cloud.preempt(call(story.cloud, HURT, "train")["id"], grace=30)
        waited = story.desk.run("wait", HURT)
        assert waited.code == 0, waited.said + story.desk.run("logs", HURT).out
        assert call(story.cloud, HURT, "train")["attempts"] == 3
        log = story.desk.run("logs", HURT, "--step", "train").out
        assert log.count("goes on from output/checkpoint-") == 2
        assert "Loading prepared dataset from disk" in log
        out = story.desk.here / "runs" / HURT / "output"
        assert (out / "merged" / "model.safetensors").exists()
        rented = {app: gpu for app, gpu in gpus(story.cloud) if HURT in app}
        kinds = {app.split(f"{HURT}-")[1].split("-")[0]: gpu for app, gpu in rented.items()}
        assert kinds == {"preprocess": "", "train": "T4", "merge": ""}
        assert story.at_rest()

    @pytest.mark.steps("train")
    @pytest.mark.seldom
    def test_a_stopped_run_is_resumed_from_what_came_home(self, story: Story, step: str) -> None:
        """Nothing of it is at Modal any more: its checkpoint is sent back there."""
        desk = story.desk
        sets = [f"--set={key}={value}" for key, value in LONGER.items()]
        begun = desk.run("train", "tiny", "-n", HALTED, "-b", "modal", "-g", "cpu", "-yd", *sets)
        assert begun.code == 0, begun.said
        checkpoint(story, run=HALTED)
        stopped = desk.run("stop", HALTED, timeout=600)
        assert "results are in" in stopped.out, stopped.said
        assert "nothing runs any more" in stopped.out
        assert not list(story.cloud.volume("ftlaunch-runs").glob(f"*-{HALTED}-*"))
        out = desk.here / "runs" / HALTED / "output"
        kept = {path.name for path in out.glob("checkpoint-*")}
        assert kept
        resumed = desk.run("resume", HALTED, "-y")
        assert resumed.code == 0, resumed.said + desk.run("logs", HALTED).out
        newest = max(kept, key=lambda name: int(name.split("-")[1]))
        assert f"output/{newest}" in resumed.out
        assert "300/300" in desk.run("logs", HALTED, "--step", "train").out
        assert (out / "adapter_model.safetensors").exists()
        assert (out / "merged" / "model.safetensors").exists()
        assert "$" in desk.run("ps", "-a").out
        assert story.at_rest()
