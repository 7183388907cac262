"""The main job on Jarvis Labs, with real axolotl: the real SDK, a real sshd, a loopback provider.

The tests of this file are one story, told in their order: a run is trained, its machine let go of
(paused), and then each question is a job of its own on what the provider still holds.
"""

from __future__ import annotations

import json
import os
import signal
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import same_commands
from clouds.jarvis.cloud import Cloud
from desks import Desk, Ended
from jarvis_axolotl import cloud_with_axolotl, variables
from proc_spy import Spy
from terminals import Terminal

from launcher import environment

pytestmark = [pytest.mark.axolotl, pytest.mark.timeout(900)]

RUN = "held"
STEPS = ("preprocess", "train", "merge_lora", "inference")


@dataclass(frozen=True)
class Story:
    """A user with an account, the run, and what was started for it here and there."""

    desk: Desk
    cloud: Cloud
    python: Path
    trained: Ended
    local: Spy
    far: Spy

    def given_bytes(self) -> int:
        """What lies on the provider's disks of models, data and earlier results, links apart."""
        total = 0
        for folder, _, names in os.walk(self.cloud.folder):
            if {"caches", "inputs"} & set(Path(folder).parts):
                paths = [Path(folder) / name for name in names]
                total += sum(path.lstat().st_size for path in paths if not path.is_symlink())
        return total

    def asleep(self) -> bool:
        """Whether no machine bills for more than its disk."""
        end = time.monotonic() + 60
        while any(m.gone is None and m.status != "Paused" for m in self.cloud.machines):
            if time.monotonic() > end:
                return False
            time.sleep(0.1)
        return True


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """`tiny`, trained and merged on this machine and on a rented one, and asked once there."""
    python = environment.python_of(environment.ensure(environment.choose({}, gpu=False)))
    folder = tmp_path_factory.mktemp("jarvis")
    (folder / "here").mkdir()
    with cloud_with_axolotl(folder / "cloud", python) as cloud:
        desk = Desk(folder / "here", folder / "state", variables(cloud))
        with Spy("axolotl.cli.") as far:
            argv = ["train", "tiny", "-n", RUN, "-b", "jarvis", "-g", "cpu", "-y"]
            trained = desk.run(*argv, "--on-finish", "pause")
            desk.run("inference", RUN, "-p", "one")
        with Spy("axolotl.cli.") as local:
            desk.run("train", "tiny", "-n", "here", "-g", "cpu", "-y")
            desk.run("inference", "here", "-p", "one")
        yield Story(desk, cloud, python, trained, local, far)
        for run in (RUN, "fresh"):
            desk.run("stop", "--now", run, timeout=120)


def test_a_run_on_a_rented_machine_comes_home_whole(story: Story) -> None:
    assert story.trained.code == 0, story.trained.said
    facts = story.desk.run("inspect", RUN, "--json").json()
    kinds = {job["kind"]: job for job in facts["jobs"]}
    assert {kind: job["phase"] for kind, job in kinds.items()} == {
        "train": "succeeded",
        "merge": "succeeded",
        "inference": "succeeded",
    }
    out = story.desk.here / "runs" / RUN / "output"
    assert (out / "adapter_model.safetensors").exists()
    assert (out / "merged" / "model.safetensors").exists()
    # The merge ran on the machine of the training: one was rented for both.
    created = [r for r in story.cloud.requests if r.path.endswith("/create") and "cpu" in r.path]
    assert len(created) == 1
    assert story.asleep()


@pytest.mark.parametrize("step", [pytest.param(step, id=f"jarvis-{step}") for step in STEPS])
def test_identical_commands(story: Story, step: str) -> None:
    here, there = (spy.first(f"axolotl.cli.{step}") for spy in (story.local, story.far))
    assert same_commands.plain(there) == same_commands.plain(here)
    mine, its = same_commands.variables(here), same_commands.variables(there)
    assert its == mine
    assert set(there.environ) - set(mine) <= same_commands.MACHINE_S | set(same_commands.OURS_APART)
    assert story.cloud.key not in str(there)


def test_identical_files(story: Story) -> None:
    names = ["here", RUN]
    outs = [story.desk.here / "runs" / name / "output" for name in names]
    found = [
        {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()} for out in outs
    ]
    assert found[0] == found[1]
    for name in ("adapter_model.safetensors", "merged/model.safetensors"):
        digests = {same_commands.tensors(story.python, out / name) for out in outs}
        assert len(digests) == 1, name


@pytest.mark.parametrize("_", [pytest.param("", id="jarvis-merge")])
def test_a_merge_goes_back_to_what_the_provider_holds(story: Story, _: str) -> None:
    before = story.given_bytes()
    ended = story.desk.run("merge", RUN, "-b", "jarvis")
    assert ended.code == 0, ended.said
    assert story.given_bytes() == before
    assert story.asleep()


@pytest.mark.parametrize("_", [pytest.param("", id="jarvis-inference")])
def test_many_prompts_are_answered_there(story: Story, _: str) -> None:
    before = story.given_bytes()
    (story.desk.here / "asked.jsonl").write_text('{"prompt": "one"}\n{"prompt": "two"}\n')
    argv = ["inference", RUN, "-b", "jarvis", "--prompts", "asked.jsonl", "-o", "answers.jsonl"]
    ended = story.desk.run(*argv, "--max-new-tokens", "4")
    assert ended.code == 0, ended.said
    rows = (story.desk.here / "answers.jsonl").read_text().splitlines()
    assert [json.loads(row)["prompt"] for row in rows] == ["one", "two"]
    assert story.given_bytes() == before
    assert story.asleep()


@pytest.mark.parametrize("_", [pytest.param("", id="jarvis-chat")])
def test_a_chat_goes_through_a_private_tunnel(story: Story, _: str) -> None:
    before = story.given_bytes()
    with Terminal(story.desk, "inference", RUN, "-b", "jarvis", "--chat") as chat:
        chat.until("axolotl chat")
        chat.type("/set max_new_tokens 5\nWhat colour is the fox?\n/status\n/quit\n")
        chat.until("max_new_tokens")
        assert chat.ended() == 0, chat.heard
    assert story.given_bytes() == before
    assert story.asleep()


@pytest.mark.parametrize("_", [pytest.param("", id="jarvis-gradio")])
def test_a_page_goes_through_a_private_tunnel(story: Story, _: str) -> None:
    before = story.given_bytes()
    page = story.desk.start("inference", RUN, "-b", "jarvis", "--gradio")
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
    assert story.asleep()


@pytest.mark.parametrize("_", [pytest.param("", id="jarvis-inference")])
def test_with_nothing_held_what_was_pulled_is_sent(story: Story, _: str) -> None:
    trained = story.desk.run(
        "train", "tiny", "-n", "fresh", "-b", "jarvis", "-g", "cpu", "-y", "--no-merge"
    )
    assert trained.code == 0, trained.said
    assert [m.status for m in story.cloud.machines if m.gone is None] == ["Paused"]
    before = story.given_bytes()
    ended = story.desk.run("inference", "fresh", "-p", "one")
    assert ended.code == 0, ended.said
    sent = [r for r in story.cloud.requests if r.path.endswith("/create") and "cpu" in r.path]
    assert len(sent) == 3
    assert story.given_bytes() == before, "what was sent is gone with its machine"
    assert story.asleep()


@pytest.mark.parametrize("_", [pytest.param("", id="local-inference")])
def test_what_was_trained_there_is_asked_here(story: Story, _: str) -> None:
    made = len([r for r in story.cloud.requests if r.path.endswith("/create")])
    ended = story.desk.run("inference", RUN, "-b", "local", "-p", "one")
    assert ended.code == 0, ended.said
    assert len([r for r in story.cloud.requests if r.path.endswith("/create")]) == made
    assert [m.status for m in story.cloud.machines if m.gone is None] == ["Paused"]
