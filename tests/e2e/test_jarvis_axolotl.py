"""The main job on Jarvis Labs, with real axolotl: the real SDK, a real sshd, a loopback provider.

The tests of this file are one story, told in their order: a run is trained, its machine let go of
(paused), and then each question is a job of its own on what the provider still holds.
"""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pytest
from clouds.jarvis.cloud import Cloud
from desks import FTLAUNCH, Desk, Ended
from jarvis_axolotl import cloud_with_axolotl, variables
from proc_spy import Seen, Spy

from launcher import environment

pytestmark = [pytest.mark.axolotl, pytest.mark.timeout(900)]

RUN = "held"
STEPS = ("preprocess", "train", "merge_lora", "inference")

MACHINE_S = frozenset(
    {
        *(
            "HOME",
            "USER",
            "LOGNAME",
            "SHELL",
            "SHLVL",
            "PWD",
            "OLDPWD",
            "PATH",
            "LANG",
            "TERM",
            "_",
        ),
        *("LC_CTYPE", "SSH_CLIENT", "SSH_CONNECTION", "MOTD_SHOWN", "MAIL", "TMPDIR"),
    }
)
"""Variables that belong to a machine and its login, not to us."""

OURS_APART = {
    "VIRTUAL_ENV": "here an environment of ours is used in place, there the image has its own",
    "HF_HOME": "there under the folder that outlives a pause",
    "FTLAUNCH_RUN_MARK": "names one attempt of one job",
}

TENSORS = """
import hashlib, sys
from safetensors import safe_open
digest = hashlib.sha256()
with safe_open(sys.argv[1], "pt") as file:
    for name in sorted(file.keys()):
        digest.update(name.encode() + file.get_tensor(name).numpy().tobytes())
print(digest.hexdigest())
"""


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
    assert _plain(there) == _plain(here)
    mine, its = _variables(here), _variables(there)
    assert its == mine
    assert set(there.environ) - set(mine) <= MACHINE_S | set(OURS_APART)
    assert story.cloud.key not in str(there)


def _plain(seen: Seen) -> tuple[str, ...]:
    """The arguments, with the run directory's own place taken out."""
    return tuple(part.replace(_root(seen), "$RUN") for part in seen.argv)


def _root(seen: Seen) -> str:
    return str(Path(seen.cwd).parent)


def _variables(seen: Seen) -> dict[str, str]:
    """What is set for the job on every machine; `JL_`, `UV_` and the like are this terminal's."""
    return {
        name: value.replace(_root(seen), "$RUN")
        for name, value in seen.environ.items()
        if name.startswith(
            ("AXOLOTL", "CUDA", "OMP", "HF_HUB_OFFLINE", "PYTHON", "FTLAUNCH", "ACCEL")
        )
        and name not in OURS_APART
    }


def test_identical_files(story: Story) -> None:
    names = ["here", RUN]
    outs = [story.desk.here / "runs" / name / "output" for name in names]
    found = [
        {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()} for out in outs
    ]
    assert found[0] == found[1]
    for name in ("adapter_model.safetensors", "merged/model.safetensors"):
        digests = {_tensors(story.python, out / name) for out in outs}
        assert len(digests) == 1, name


def _tensors(python: Path, file: Path) -> str:
    argv = [str(python), "-c", TENSORS, str(file)]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()


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


class Terminal:
    """A command in a terminal of its own; `heard` is what it has printed."""

    def __init__(self, desk: Desk, *argv: str) -> None:
        self.heard = ""
        self._desk, self._argv = desk, argv

    def __enter__(self) -> Self:
        self._side, child = pty.openpty()
        self._process = subprocess.Popen(
            [FTLAUNCH, *self._argv],
            cwd=self._desk.here,
            env={**self._desk.environ, "TERM": "dumb"},
            stdin=child,
            stdout=child,
            stderr=child,
            start_new_session=True,
        )
        os.close(child)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._side)

    def type(self, text: str) -> None:
        os.write(self._side, text.encode())

    def until(self, text: str, *, within: float = 300) -> None:
        """Wait until this is heard."""
        end = time.monotonic() + within
        while text not in self.heard:
            assert time.monotonic() < end, self.heard
            assert self._read(), self.heard

    def ended(self, within: float = 120) -> int:
        end = time.monotonic() + within
        while self._process.poll() is None:
            assert time.monotonic() < end, self.heard
            self._read()
        return int(self._process.returncode)

    def _read(self) -> bool:
        ready, _, _ = select.select([self._side], [], [], 1)
        if not ready:
            return True
        try:
            self.heard += os.read(self._side, 65536).decode("utf-8", "replace")
        except OSError:
            return False
        return True
