"""The main job on Modal, with real axolotl: the real SDK, on both sides of a loopback provider.

One story, told in order: a run is launched by one process, its container is killed and preempted on
the way, and another process follows and pulls it. Then each question is a job of its own, on what
the Volume still holds.
"""

from __future__ import annotations

import json
import signal
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import same_commands
from clouds.modal.cloud import Cloud
from desks import Desk, Ended
from proc_spy import Spy
from terminals import Terminal

from launcher import environment

pytestmark = [pytest.mark.axolotl, pytest.mark.timeout(900)]

RUN, HURT = "held", "hurt"
STEPS = ("preprocess", "train", "merge_lora", "inference")
LONGER = ("--set", "max_steps=30", "--set", "save_steps=2", "--no-merge")
CERTIFICATES_S = ("CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_DIR", "SSL_CERT_FILE")
CONTAINER_S = frozenset({"LC_ALL", "TZ", "NO_PROXY", "OMP_NUM_THREADS", *CERTIFICATES_S})
"""Variables of a container; what begins with `MODAL_` is taken out before a job sees it."""


@dataclass(frozen=True)
class Story:
    """A user with an account, the run, and what was started for it here and there."""

    desk: Desk
    cloud: Cloud
    python: Path
    trained: Ended
    local: Spy
    far: Spy

    def call(self, run: str, kind: str) -> dict[str, Any]:
        """The call of a run's job of that kind."""
        state = self.cloud.state
        (app,) = [app for app in state["apps"] if f"-{run}-{kind}-" in app["description"]]
        (call,) = [call for call in state["calls"] if call["app"] == app["id"]]
        return dict(call)

    def given_bytes(self) -> int:
        """What lies on the volumes of models, data and earlier results."""
        caches = self.cloud.volume("ftlaunch-caches").rglob("*")
        inputs = self.cloud.volume("ftlaunch-runs").glob("*/inputs/**/*")
        return sum(path.stat().st_size for path in (*caches, *inputs) if path.is_file())

    def at_rest(self) -> bool:
        """Whether no container bills."""
        end = time.monotonic() + 30
        while self.cloud.billing():
            if time.monotonic() > end:
                return False
            time.sleep(0.1)
        return True


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """`tiny`, trained and merged on this machine and in containers, and asked once there."""
    python = environment.python_of(environment.ensure(environment.choose({}, gpu=False)))
    folder = tmp_path_factory.mktemp("modal")
    (folder / "here").mkdir()
    path = f"{python.parent}:/usr/local/bin:/usr/bin:/bin"
    with Cloud(folder / "cloud", image_env={"PATH": path}) as cloud:
        desk = Desk(folder / "here", folder / "state", cloud.environ)
        with Spy("axolotl.cli.") as far:
            argv = ["train", "tiny", "-n", RUN, "-b", "modal", "-g", "cpu", "-y"]
            trained = desk.run(*argv, "--on-finish", "pause")
            desk.run("inference", RUN, "-p", "one")
        with Spy("axolotl.cli.") as local:
            desk.run("train", "tiny", "-n", "here", "-g", "cpu", "-y")
            desk.run("inference", "here", "-p", "one")
        yield Story(desk, cloud, python, trained, local, far)
        for run in (RUN, HURT):
            desk.run("stop", "--now", run, timeout=120)


def test_a_run_in_containers_comes_home_whole(story: Story) -> None:
    assert story.trained.code == 0, story.trained.said
    facts = story.desk.run("inspect", RUN, "--json").json()
    assert {job["kind"]: job["phase"] for job in facts["jobs"]} == {
        "train": "succeeded",
        "merge": "succeeded",
        "inference": "succeeded",
    }
    out = story.desk.here / "runs" / RUN / "output"
    assert (out / "adapter_model.safetensors").exists()
    assert (out / "merged" / "model.safetensors").exists()
    assert story.at_rest()


@pytest.mark.parametrize("step", [pytest.param(step, id=f"modal-{step}") for step in STEPS])
def test_identical_commands(story: Story, step: str) -> None:
    here, there = (spy.first(f"axolotl.cli.{step}") for spy in (story.local, story.far))
    assert same_commands.plain(there) == same_commands.plain(here)
    mine, its = same_commands.variables(here), same_commands.variables(there)
    # As many threads as the container was asked to have cores; here as many as there are.
    assert its.pop("OMP_NUM_THREADS") == "4"
    mine.pop("OMP_NUM_THREADS")
    assert its == mine
    apart = same_commands.MACHINE_S | set(same_commands.OURS_APART) | CONTAINER_S
    assert set(there.environ) - set(mine) <= apart
    assert story.cloud.token_secret not in str(there)


def test_identical_files(story: Story) -> None:
    outs = [story.desk.here / "runs" / name / "output" for name in ("here", RUN)]
    found = [
        {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()} for out in outs
    ]
    assert found[0] == found[1]
    for name in ("adapter_model.safetensors", "merged/model.safetensors"):
        digests = {same_commands.tensors(story.python, out / name) for out in outs}
        assert len(digests) == 1, name


@pytest.mark.parametrize("_", [pytest.param("", id="modal-merge")])
def test_a_merge_goes_back_to_what_the_volume_holds(story: Story, _: str) -> None:
    before = story.given_bytes()
    ended = story.desk.run("merge", RUN, "-b", "modal")
    assert ended.code == 0, ended.said
    assert story.given_bytes() == before
    assert story.at_rest()


@pytest.mark.parametrize("_", [pytest.param("", id="modal-inference")])
def test_many_prompts_are_answered_there(story: Story, _: str) -> None:
    before = story.given_bytes()
    (story.desk.here / "asked.jsonl").write_text('{"prompt": "one"}\n{"prompt": "two"}\n')
    argv = ["inference", RUN, "-b", "modal", "--prompts", "asked.jsonl", "-o", "answers.jsonl"]
    ended = story.desk.run(*argv, "--max-new-tokens", "4")
    assert ended.code == 0, ended.said
    rows = (story.desk.here / "answers.jsonl").read_text().splitlines()
    assert [json.loads(row)["prompt"] for row in rows] == ["one", "two"]
    assert story.given_bytes() == before
    assert story.at_rest()


@pytest.mark.parametrize("_", [pytest.param("", id="modal-chat")])
def test_a_chat_goes_through_a_private_tunnel(story: Story, _: str) -> None:
    before = story.given_bytes()
    with Terminal(story.desk, "inference", RUN, "-b", "modal", "--chat") as chat:
        chat.until("axolotl chat")
        chat.type("/set max_new_tokens 5\nWhat colour is the fox?\n/status\n/quit\n")
        chat.until("max_new_tokens")
        assert chat.ended() == 0, chat.heard
    assert story.given_bytes() == before
    assert story.at_rest()


@pytest.mark.parametrize("_", [pytest.param("", id="modal-gradio")])
def test_a_page_goes_through_a_private_tunnel(story: Story, _: str) -> None:
    before = story.given_bytes()
    page = story.desk.start("inference", RUN, "-b", "modal", "--gradio")
    try:
        assert page.stdout is not None
        said = ""
        while "open http://" not in said:
            line = page.stdout.readline()
            assert line, said
            said += line
        url = said[said.index("http://") :].split()[0]
        assert url.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(url, timeout=30) as reply:
            assert reply.status == 200
        page.send_signal(signal.SIGINT)
        assert page.wait(120) == 0
    finally:
        page.kill()
        page.wait()
        if page.stdout is not None:
            page.stdout.close()
    assert story.given_bytes() == before
    assert story.at_rest()


def checkpoint(story: Story, after: str = "") -> str:
    """The youngest that was committed as a whole, once it is another one."""
    end = time.monotonic() + 300
    while time.monotonic() < end:
        top = story.cloud.volume("ftlaunch-runs")
        lists = top.glob(f"*-{HURT}-train-*/.whole/output/*.json")
        found = sorted((path.stem for path in lists), key=lambda name: int(name.split("-")[-1]))
        if found and found[-1] != after:
            return found[-1]
        time.sleep(0.2)
    raise AssertionError(f"no checkpoint after {after!r}: {story.desk.run('logs', HURT).said}")


def test_it_goes_on_through_a_death_and_a_preemption(story: Story) -> None:
    argv = ["train", "tiny", "-n", HURT, "-b", "modal", "-g", "cpu", "-y", "-d", *LONGER]
    begun = story.desk.run(*argv)
    assert begun.code == 0, begun.said
    checkpoint(story)
    story.cloud.kill(story.call(HURT, "train")["id"])
    before = checkpoint(story)  # perhaps a later one: it was committed meanwhile
    checkpoint(story, before)
    story.cloud.preempt(story.call(HURT, "train")["id"], grace=30)
    waited = story.desk.run("wait", HURT)
    assert waited.code == 0, waited.said + story.desk.run("logs", HURT).out
    assert story.call(HURT, "train")["attempts"] == 3
    log = story.desk.run("logs", HURT, "--step", "train").out
    assert log.count("goes on from output/checkpoint-") == 2
    out = story.desk.here / "runs" / HURT / "output"
    assert (out / "adapter_model.safetensors").exists()
    assert story.at_rest()
